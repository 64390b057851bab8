"""Table 1 of a reproduction, where it was measured before: what is said of it, and how the command ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from approxtrain_cli import reproduce_kernel

MEASURED = Path(__file__).parents[2] / "results/bench/kernel-paper-cpu.json"


@pytest.mark.parametrize("wrong", [None, {"failed": ["method"], "milliseconds": {}}])
def test_a_kernel_that_was_wrong_stays_wrong_when_it_is_not_measured_again(tmp_path, capsys, wrong):
    document = json.loads(MEASURED.read_text("utf-8"))
    document["rows"][2] |= wrong or {}
    (tmp_path / reproduce_kernel.FILE).write_text(json.dumps(document))
    assert reproduce_kernel.run(Console(), tmp_path, rounds=6, dry_run=False) is (wrong is None)
    out = capsys.readouterr().out
    assert ("1 of 8 rows" in out) == (wrong is not None)
