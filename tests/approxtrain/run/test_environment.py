"""What is recorded of the machine and of the program's versions."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from approxtrain.run import environment
from approxtrain.run.environment import this_environment


def test_the_environment_says_where_a_number_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    this_environment()  # starts the backend, which would refuse the flag below
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_this_test")
    found = this_environment()
    assert found["device_platform"] in ("cpu", "gpu")
    assert found["device_count"] >= 1
    assert found["cpu_count"] >= 1
    assert {"approxtrain", "jax", "jaxlib", "flax", "optax", "numpy"} <= found["versions"].keys()
    assert found["xla_flags"] == "--xla_of_this_test"
    assert re.fullmatch(r"XLA|our own for float32, AVX(2|-512)", found["cpu_convolutions"])
    assert json.loads(json.dumps(found)) == found


def test_the_commit_is_asked_for_without_taking_a_lock(monkeypatch, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "approxtrain/run").mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(checkout / "approxtrain/run/environment.py"))
    assert environment.git_commit() is None
    identity = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.run(command, env=os.environ | identity, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    (checkout / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD").strip()
    os.utime(checkout / "file", (1, 1))  # the index would be refreshed by a command that may
    index = (checkout / ".git/index").read_bytes()
    assert environment.git_commit() == commit
    assert (checkout / ".git/index").read_bytes() == index
    (checkout / ".git/index.lock").touch()
    assert environment.git_commit() == commit
    assert (checkout / ".git/index").read_bytes() == index
    (checkout / "file").write_text("2")
    assert environment.git_commit() == f"{commit}-dirty"
