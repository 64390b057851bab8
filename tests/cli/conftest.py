"""The program as a user runs it: another process, from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path) -> Run:
    """`program("ls", "models", COLUMNS="60")`: arguments, and changes to the environment."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "cli", ROOT / "kernels")))

    def run(*arguments: str, code: str = "main()", stdout: int = subprocess.PIPE, **environment: str):
        return subprocess.run(
            [sys.executable, "-c", f"import sys; from approxtrain_cli.main import main; {code}", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )

    return run
