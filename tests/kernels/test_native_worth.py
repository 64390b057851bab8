"""The command that says whether our own code is worth having (docs/native.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from approxtrain_kernels import native

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.gate,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]


def worth(*arguments, **variables):
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    command = [sys.executable, ROOT / "tools/native_worth.py", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_it_measures_and_gives_a_verdict(tmp_path):
    file = tmp_path / "worth.json"
    done = worth("--shapes", "4,4,4,8,16,3,1;4,6,6,3,8,3,2", "--rounds", 2, "--json", file)
    assert done.returncode == 0, done.stderr
    summary = json.loads(file.read_text())
    assert [row["kind"] for row in summary["rows"]] == 2 * ["forward", "dgrad", "wgrad"]
    for row in summary["rows"]:
        assert row["ratio"] > 0
        assert {name: len(times) for name, times in row["milliseconds"].items()} == {"native": 2, "xla": 2}
    assert summary["largest"]["ratio"] == max(row["ratio"] for row in summary["rows"])
    assert summary["may_be_deleted"] == (summary["largest"]["ratio"] <= summary["limit"])
    assert ("may be deleted" in done.stdout) == summary["may_be_deleted"]


def test_where_there_is_no_code_of_our_own_it_says_so():
    done = worth(APPROXTRAIN_NATIVE="0")
    assert done.returncode == 1
    assert "APPROXTRAIN_NATIVE=0 turns it off" in done.stderr
