"""A few steps of a network, exact, for an estimate where no run tells what they take."""

from __future__ import annotations

import time
from statistics import median

import jax

from approxtrain.bench.step import StepBench
from approxtrain.config import Config
from approxtrain.schedule import full

MOST, LONGEST = 5, 8.0
"""Steps that are timed, and seconds after which no other is begun."""


def step(config: Config) -> tuple[float, float]:
    """(median seconds of an exact step, seconds of compiling it) of the network of `config` on its images."""
    bench = StepBench(config)
    contender = bench.single("full", full(bench.model.layers), "host")
    begin = time.perf_counter()
    contender.call()
    first = time.perf_counter() - begin
    seconds: list[float] = []
    while not seconds or (len(seconds) < MOST and sum(seconds) < LONGEST):
        begin = time.perf_counter()
        contender.call()
        seconds.append(time.perf_counter() - begin)
    jax.clear_caches()
    taken = median(seconds)
    return taken, max(first - taken, 0.0)
