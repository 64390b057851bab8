"""Memory, descriptors and threads of a process that trains for long and saves often."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from approxtrain import config
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

EPOCH = 20
"""Steps."""
MOST_MB = 50.0
"""What memory may grow by between the first quarter and the end."""


class Gauge(Listener):
    """What the process holds after each epoch."""

    def __init__(self) -> None:
        self.read: list[dict[str, float]] = []

    def epoch(self, row: dict[str, Any]) -> None:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
        memory, threads = (int(status[name].split()[0]) for name in ("VmRSS", "Threads"))
        descriptors = len(os.listdir("/proc/self/fd"))
        self.read.append({"memory_mb": memory / 1024, "descriptors": descriptors, "threads": threads})


def train(steps: int, work: Path) -> dict[str, Any]:
    """A run of `steps` steps with a checkpoint at every fifth. → what it held after a quarter and at its end."""
    epochs = max(8, steps // EPOCH)
    folder, gauge = work / "steady", Gauge()
    shutil.rmtree(folder, ignore_errors=True)
    settings = ["data.limit=640", "train.batch_size=32", "train.checkpoint_every=5", f"train.epochs={epochs}"]
    loaded = config.load("quickstart", [*settings, f"train.validate_every={max(1, epochs // 10)}"])
    with RunFolder.create(folder) as run:
        Run(loaded, run, gauge).train()
    shutil.rmtree(folder)
    after, end = gauge.read[len(gauge.read) // 4], gauge.read[-1]
    lost = [
        f"{name} grew from {after[name]:.0f} to {end[name]:.0f}"
        for name in end
        if end[name] > after[name] + _most(name)
    ]
    return {"steps": EPOCH * epochs, "saves": 4 * epochs, "after_a_quarter": after, "at_the_end": end, "lost": lost}


def _most(name: str) -> float:
    return MOST_MB if name == "memory_mb" else 0
