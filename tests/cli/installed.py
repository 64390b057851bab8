"""The installed script as a process, with faults planted in it: what the tests of the twenty faults share."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("approxtrain")
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "approxtrain_cli"]
TINY = ["quickstart", "model.target=tests.networks:Tiny", "data.limit=64", "train.batch_size=8", "train.chunk=1"]
"""Eight steps an epoch of a network that is compiled soon."""

LOOP = "approxtrain.training.loop"
AT_STEP = """
finished_before = Run._finished
def finished_now(self, step, *rest):
    finished_before(self, step, *rest)
    if step + 1 == {step}:
        {what}
Run._finished = finished_now
"""
"""Planted in LOOP: what happens once a step is seen to be finished."""

PLANT = """
import importlib.abc, importlib.machinery, sys

class Planted(importlib.abc.MetaPathFinder):
    # runs a fault's code when the module that it is for has been imported
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            exec({code!r}, vars(module))
        spec.loader.exec_module = exec_module
        return spec

import importlib.util
sys.meta_path.insert(0, Planted())
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Program:
    """The script, in a folder of its own, with what is planted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def plant(self, module: str, code: str) -> None:
        """Run `code` in the namespace of `module` of the package, in every process from here on; "" for none."""
        (self.folder / "sitecustomize.py").write_text(PLANT.format(module=module, code=code) if code else "")

    def start(self, *arguments: object, before: Callable[[], object] | None = None, **variables: str):
        """A process, its output piped; `before` is called in it first."""
        path = os.pathsep.join(map(str, (self.folder, ROOT, ROOT / "cli", ROOT / "kernels")))
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def __call__(self, *arguments: object, **more) -> Ended:
        """How the process ends, which no fault makes one with a traceback."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in out + err, err
        return Ended(process.returncode, out, err)

    def train(self, *more: object, out: str = "run", **how) -> Ended:
        return self("train", *TINY, "train.epochs=1", *more, "--out", out, **how)

    def resume(self, *more: object, out: str = "run", **how) -> Ended:
        return self("train", "--resume", out, *more, **how)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def until(process: subprocess.Popen[str], text: str) -> None:
    """Read what the process prints up to a line with `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} did not come; {process.communicate()[1]}")


def signalled(process: subprocess.Popen[str], number: signal.Signals) -> tuple[Ended, float]:
    """How the process ends after a signal, and the seconds until it said something."""
    began = time.monotonic()
    process.send_signal(number)
    select.select([process.stdout, process.stderr], [], [], 20)
    seconds = time.monotonic() - began
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err), seconds


def outcome(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """The rows of a run, and the arrays of its last checkpoint."""
    newest = max((folder / "checkpoints").glob("step-*"))
    with np.load(newest / "arrays.npz") as arrays:
        return (folder / "metrics.jsonl").read_bytes(), {name: arrays[name].tobytes() for name in arrays}


def steps(folder: Path) -> list[int]:
    """The checkpoints there are."""
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())
