"""How long a run will take here, from a few exact steps of its network that are measured once a folder.

steps · seconds a step + validations · images / batch · FORWARD · seconds a step + (columns + 1) · compiling
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from approxtrain import disk
from approxtrain.config import Config
from approxtrain.errors import InterruptedRun
from approxtrain.paper.planning import PlannedRun
from approxtrain.training.signals import Interruption

STEPS = ".steps.json"
FORWARD = 1 / 3
"""Share of a training step that it takes to run the network forward on as many images."""
MOST, LONGEST = 6, 8.0
"""Calls of a step that are timed, the first with compiling, and seconds after which no other is begun."""


StepTime = tuple[float, float]
"""Seconds of a step, and of compiling one column."""


def seconds(planned: PlannedRun, step_time: StepTime, epochs_done: int, validation_images: int) -> float:
    """Seconds that are left of a run that has `epochs_done` behind it."""
    step_seconds, compile_seconds = step_time
    train = planned.config.train
    left = range(epochs_done + 1, train.epochs + 1)
    validations = sum(epoch % train.validate_every == 0 or epoch == train.epochs for epoch in left)
    steps = len(left) * planned.steps_per_epoch
    forward = validations * validation_images / train.batch_size * FORWARD
    programs = len(planned.schedule.columns) + 1  # and the one that validates
    return (steps + forward) * step_seconds + programs * compile_seconds


def step_time(folder: Path, config: Config, here: dict[str, Any], tell: Callable[[str], object]) -> StepTime:
    """What an exact step of the network of `config` takes in the environment `here`.

    From the file STEPS in `folder`, or measured now, which `tell` is told, and written there. DiskError;
    InterruptedRun by a signal.
    """
    known = _read(folder)
    machine = (here[name] for name in ("device", "processor", "cpu_count"))
    key = ", ".join(map(str, (config.model.name, config.train.batch_size, config.train.precision, *machine)))
    if key not in known:
        tell(f"measuring a step of {config.model.name} …")
        known[key] = _measure(config)
        disk.write_json(folder / STEPS, known)
    step_seconds, compile_seconds = known[key]
    return step_seconds, compile_seconds


def _read(folder: Path) -> dict[str, Any]:
    """Nothing where the file is missing or damaged: steps are soon measured again."""
    try:
        known = json.loads((folder / STEPS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _measure(config: Config) -> StepTime:
    import jax

    from approxtrain.bench.step_bench import StepBench

    taken: list[float] = []
    with Interruption() as interruption:
        bench = StepBench(config)
        call = bench.contender(bench.full).call
        while len(taken) < 2 or (len(taken) < MOST and sum(taken[1:]) < LONGEST):
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
            if interruption.signal_number is not None:  # it waited: who leaves in the midst of a call may crash
                raise InterruptedRun(interruption.signal_number, "Stopped by a signal, while a step was measured.")
    jax.clear_caches()
    step = median(taken[1:])
    return step, max(taken[0] - step, 0.0)
