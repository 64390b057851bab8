"""What only a measurement on this device can say, taken once in the life of a run: how many steps one call takes.

A call of a compiled program costs the host some time, which short steps do not hide. `train.chunk` steps in one call,
by `lax.scan`, pay it once; but a loop has costs of its own, so neither is faster everywhere. At the start of a run that
leaves `train.chunk` open both are timed on a copy of its state, and what is chosen is written to the run's config.toml:
a resumed run repeats the bits only if it groups its steps in the same way.

Nothing is measured, and one step a call is taken,

- where a step lasts LONG or more: what a call costs the host, well below a millisecond, is then less than the GAIN that
  would be asked for;
- where the whole run is SHORT: it could not earn back the compiling of a second program;
- where steps of different columns are different programs (`host` dispatch of several columns).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from approxtrain.batch import Images
from approxtrain.dispatch import Dispatch
from approxtrain.in_flight import InFlight
from approxtrain.listener import Listener
from approxtrain.step import TrainState

LONG = 0.05
"""Seconds a step, of which 2 % are a millisecond."""
SHORT = 120.0
"""Seconds of a run, of which the measurement takes some 5 of compiling and at most 10 of steps."""
CALL = 1.0
"""The longest that a call may last, in seconds: a signal waits for it, and for one more that is on its way."""
MOST = 64
"""Steps a call: a cost that is paid once in 64 steps is as good as none."""
GAIN = 0.02
"""A chunk must be faster by this share; less is within the noise, and single steps serve signals sooner."""
ROUNDS = 5

SERVED = 5.0
"""Seconds that a call may last for signals to be served; a chunk that is given and lasts longer earns a warning."""


@dataclass(frozen=True)
class Found:
    """The steps a call that were chosen, and the seconds a step by which they were (steps a call → median)."""

    chunk: int
    seconds: dict[int, float]

    def __str__(self) -> str:
        times = ", ".join(f"{1e3 * seconds:.2f} ms by {size}" for size, seconds in self.seconds.items())
        return f"{self.chunk} steps a call (a step takes {times})" if self.chunk > 1 else f"1 step a call ({times})"


def chunk(
    dispatch: Dispatch,
    state: TrainState,
    images: Images,
    order: jax.Array,
    total_steps: int,
    between: Callable[[], None] = lambda: None,
) -> Found:
    """The steps a call that are fastest here. `state` is copied, and `dispatch` keeps the programs.

    `between` is called every second or so, and may raise to end it.
    """
    if not dispatch.one_program:
        return Found(1, {})
    copy = jax.tree.map(jnp.copy, state)
    copy, _ = _take(dispatch, 1, 1, copy, images, order)  # compiles
    times = []
    for _ in range(3):
        copy, seconds = _take(dispatch, 1, 1, copy, images, order)
        times.append(seconds)
    between()
    alone = statistics.median(times)
    candidate = largest(alone, dispatch.task.steps_per_epoch)
    if candidate == 1 or alone >= LONG or alone * total_steps < SHORT:
        return Found(1, {1: alone})
    copy, _ = _take(dispatch, candidate, candidate, copy, images, order)
    taken: dict[int, list[float]] = {1: [], candidate: []}
    for _ in range(ROUNDS):
        for size, seconds_a_step in taken.items():
            copy, seconds = _take(dispatch, size, candidate, copy, images, order)
            seconds_a_step.append(seconds / candidate)
            between()
    medians = {size: statistics.median(seconds) for size, seconds in taken.items()}
    return Found(candidate if medians[candidate] <= (1 - GAIN) * medians[1] else 1, medians)


def use(dispatch: Dispatch, chunk: int, listener: Listener) -> None:
    """Have `dispatch` take `chunk` steps a call, or single ones, with a warning, where a chunk would never begin."""
    dispatch.chunk = chunk
    if dispatch.span(0) < chunk:
        several = "under host dispatch, steps of different columns are different programs"
        why = f"an epoch has {dispatch.task.steps_per_epoch} steps" if dispatch.one_program else several
        listener.warn(f"train.chunk={chunk} has no effect: {why}.")
        dispatch.chunk = 1


def largest(step_seconds: float, steps_per_epoch: int) -> int:
    """The largest power of two of steps that last at most CALL, fit into an epoch and are at most MOST; at least 1."""
    most = min(MOST, steps_per_epoch, int(CALL / step_seconds))
    return 1 << max(most.bit_length() - 1, 0)


def _take(
    dispatch: Dispatch, chunk: int, steps: int, state: TrainState, images: Images, order: jax.Array
) -> tuple[TrainState, float]:
    """The first `steps` steps of an epoch, `chunk` a call, as the training loop takes them. → (state, seconds)."""
    dispatch.chunk = chunk
    state = state._replace(step=jnp.zeros_like(state.step))
    flight = InFlight(lambda step, loss, seconds: None, chunk)
    begin = time.perf_counter()
    step = 0
    while step < steps:
        taken = dispatch.span(step)
        state, metrics = dispatch(step, state, images, order)
        flight.add(step, metrics, timed=False)
        step += taken
    flight.drain()
    return state, time.perf_counter() - begin
