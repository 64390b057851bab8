"""Checks on several virtual devices of a CPU.

jax fixes the number of devices when it starts. So the checks of a test file run in one process of its own, which is
that file as a program: it prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def outcomes_of(file: str, devices: int, names: Iterable[str] | None = None) -> dict[str, str]:
    """What each check of a file, or those of these names, found wrong; empty where nothing."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "kernels"))), "XLA_FLAGS": flags}
    wanted = [] if names is None else [f"^({'|'.join(map(re.escape, names))})$"]
    done = subprocess.run([sys.executable, file, *wanted], env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


def main(checks: Mapping[str, Callable[[], object]]) -> None:
    """All checks, or, for a developer, what a pattern on the command line names."""
    wanted = re.compile("".join(sys.argv[1:]))
    for name, check in checks.items():
        if not wanted.search(name):
            continue
        try:
            check()
            wrong = ""
        except (Exception, pytest.fail.Exception) as error:
            wrong = f"{type(error).__name__}: {error}"
        os.write(1, f"{json.dumps([name, wrong])}\n".encode())
