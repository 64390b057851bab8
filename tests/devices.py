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
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
Check = Callable[[], object]


class Checks:
    """Those of a test file on so many devices: `gate` runs in the gate, `long` with the long tests."""

    def __init__(
        self, file: str, devices: int, gate: Mapping[str, Check], long: Mapping[str, Check] | None = None
    ) -> None:
        self._file, self._devices, self._gate, self._long = file, devices, gate, long or {}

    @property
    def parameters(self) -> list[Any]:
        """A name each, to parametrise a test."""
        marks = {**dict.fromkeys(self._gate, pytest.mark.gate), **dict.fromkeys(self._long, pytest.mark.long)}
        return [pytest.param(name, id=name, marks=mark) for name, mark in marks.items()]

    def wrong(self, name: str) -> str:
        """What the check found wrong; empty where nothing."""
        return (self._of_gate if name in self._gate else self._of_long)[name]

    @cached_property
    def _of_gate(self) -> dict[str, str]:
        return self._outcomes(self._gate)

    @cached_property
    def _of_long(self) -> dict[str, str]:
        return self._outcomes(self._long)

    def _outcomes(self, names: Iterable[str]) -> dict[str, str]:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={self._devices}"
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
        environment = {**os.environ, "PYTHONPATH": paths, "XLA_FLAGS": flags}
        command = [sys.executable, self._file, f"^({'|'.join(map(re.escape, names))})$"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=580)
        assert done.returncode == 0, done.stderr
        return dict(map(json.loads, done.stdout.splitlines()))

    def main(self) -> None:
        """All checks, or, for a developer, what a pattern on the command line names."""
        wanted = re.compile("".join(sys.argv[1:]))
        for name, check in {**self._gate, **self._long}.items():
            if not wanted.search(name):
                continue
            try:
                check()
                wrong = ""
            except (Exception, pytest.fail.Exception) as error:
                wrong = f"{type(error).__name__}: {error}"
            os.write(1, f"{json.dumps([name, wrong])}\n".encode())
