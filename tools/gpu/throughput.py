"""How many images a second one network trains on this device, by the ways in which a step can reach it.

    host      one compiled step, called from Python
    scan      STEPS of them in one call
    switch    its forward and backward pass as a branch of `lax.switch`, called from Python
    seeds N   one step of N networks at once (`seeds.py`, by `vmap`)
    approx    the step with every layer under `approx`, of one network and of several

A sample is STEPS steps in a row, which the host sends without waiting. What XLA launches together depends on XLA_FLAGS,
which belong to the process: `make gpu-bench` runs this once without any, and once with convolutions inside of command
buffers (CUDA graphs).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain.bench.step import Contender, StepBench
from approxtrain.bench.timing import Times, interleaved, ratio
from approxtrain.config import load
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.config import Rule
from approxtrain.training.batch import Keys, epoch_order
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.step import set_up

STEPS = 20
SEEDS = (4, 16)
ROUNDS = 10


def run(
    preset: str, precisions: Sequence[str], ways: Sequence[str], overrides: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """A row for each precision: times of the contenders, interleaved."""
    for precision in precisions:
        bench = Throughput(load(preset, ["data.name=shapes", f"train.precision={precision}", *overrides]))
        contenders = bench.contenders(ways)
        with ThreadPoolExecutor(len(contenders)) as pool:  # the first call compiles
            failures = dict(zip([one.name for one in contenders], pool.map(_failure, contenders), strict=True))
        calls = {contender.name: contender.call for contender in contenders if not failures[contender.name]}
        failed = {name: failure for name, failure in failures.items() if failure}
        yield bench.row(interleaved(calls, ROUNDS)) | {"failed": failed, "right": not failed}


def _failure(contender: Contender) -> str:
    """What stops a contender from running, in a line; it must not hide the others."""
    try:
        contender.call()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return ""


class Throughput(StepBench):
    """Contenders that take STEPS exact steps each."""

    def contenders(self, ways: Sequence[str]) -> list[Contender]:
        """Those of `ways`, which are host, scan, switch, seeds and approx."""
        full, approx = self._full(), self._from(ScheduleConfig(rules=(Rule(method="approx"),)))
        found = []
        if "host" in ways:
            found.append(self.single("host", full, "host", steps=STEPS))
        if "scan" in ways:
            found.append(self.several("scan", full, chunk=STEPS))
        if "switch" in ways:
            found.append(self.single("switch", self._never_switched(), "switch", steps=STEPS))
        if "seeds" in ways:
            found += [self.several(f"seeds {count}", full, seeds=count) for count in SEEDS]
        if "approx" in ways:
            found.append(self.single("approx", approx, "host", steps=STEPS))
            found.append(self.several(f"approx, seeds {SEEDS[0]}", approx, seeds=SEEDS[0]))
        return found

    def several(self, name: str, schedule: Schedule, *, chunk: int = 1, seeds: int = 1) -> Contender:
        """STEPS steps, `chunk` of them a call, of `seeds` networks."""
        train = self.config.train
        keys = Keys.of_all(range(seeds)) if seeds > 1 else self.keys
        task, state = set_up(self.model, self.config, self.steps_per_epoch, keys.init)
        by = "vmap" if seeds > 1 else None
        of_one = {"batch_size": train.batch_size, "augment": train.augment, "mode": "host"}
        dispatch = Dispatch(task, schedule, keys, **of_one, chunk=chunk, seeds_by=by)
        images, order = len(self.dataset.train_labels), self.order
        if by:
            order = jnp.stack([epoch_order(key, jnp.int32(1), images) for key in keys.order])

        def call() -> None:
            nonlocal state
            state = state._replace(step=jnp.zeros_like(state.step))
            for step in range(0, STEPS, chunk):
                state, _ = dispatch(step, state, self.images, order)
            jax.block_until_ready(state)

        return Contender(name, call, STEPS, dispatch.compiled)

    def row(self, taken: dict[str, Times]) -> dict[str, Any]:
        batch = self.config.train.batch_size
        times = {name: Times(tuple(seconds / STEPS for seconds in found.seconds)) for name, found in taken.items()}
        networks = {name: int(name.split("seeds ")[1]) if "seeds" in name else 1 for name in times}
        return {
            "model": self.model.name,
            "batch": batch,
            "precision": self.config.train.precision,
            "data": self.data,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "steps_a_sample": STEPS,
            "milliseconds": {name: found.milliseconds for name, found in times.items()},
            "images_a_second": {name: networks[name] * batch / found.median for name, found in times.items()},
            "ratio_to_host": {
                name: ratio(found, times["host"]).as_json()
                for name, found in times.items()
                if name != "host" and "host" in times
            },
        }
