"""A few steps of a network, exact, for an estimate where no run tells what they take."""

from __future__ import annotations

import time
from statistics import median

import jax

from approxtrain.bench.step import Contender, StepBench
from approxtrain.config import Config
from approxtrain.errors import InterruptedRun
from approxtrain.schedule import Schedule
from approxtrain.training.signals import Interruption

MOST, LONGEST = 5, 8.0
"""Steps that are timed, and seconds after which no other is begun."""


def step(config: Config) -> tuple[float, float]:
    """(median seconds of an exact step, seconds of compiling it) of the network of `config` on its images.

    InterruptedRun by a signal, once the call that is under way has ended: a process that leaves in the midst of one
    may crash.
    """
    with Interruption() as interruption:
        bench = StepBench(config)
        contender = bench.single("full", Schedule.named("full", bench.model.layers), "host")
        first = _seconds(contender, interruption)
        seconds: list[float] = []
        while not seconds or (len(seconds) < MOST and sum(seconds) < LONGEST):
            seconds.append(_seconds(contender, interruption))
    jax.clear_caches()
    taken = median(seconds)
    return taken, max(first - taken, 0.0)


def _seconds(contender: Contender, interruption: Interruption) -> float:
    """What one call takes."""
    begin = time.perf_counter()
    contender.call()
    if interruption.signal_number is not None:
        raise InterruptedRun(interruption.signal_number, "Stopped by a signal, while a step was measured.")
    return time.perf_counter() - begin
