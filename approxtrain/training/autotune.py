"""What only a measurement on this device can say, taken once in the life of a run, and written to its config.toml.

How the gradients of several seeds are computed (`seeds_by`), and how many steps one call takes (`chunk`).

A call of a compiled program costs some time, on a CPU more than the host's. `train.chunk` steps in one call, by
`lax.scan`, pay it once; but a loop has costs of its own, so neither is faster everywhere. At the start of a run that
leaves `train.chunk` open both are timed on a copy of its state. A resumed run does as its config.toml says: it repeats
the bits only if it groups its steps in the same way.

The chunk is not measured, and one step a call is taken,

- where two steps last longer than CALL;
- where the whole run is SHORT: it could not earn back the compiling of a second program;
- where steps of different columns are different programs (`host` dispatch of several columns).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from approxtrain.config import Config, settled
from approxtrain.training.batch import Images
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.events import Listener
from approxtrain.training.pending import InFlight
from approxtrain.training.step import TrainState

SHORT = 600.0
"""Seconds of a run, of which GAIN would be six; the measurement takes the compiling of a second program, and up to
2 · ROUNDS · CALL of steps."""
CALL = 1.0
"""The longest that a call may last, in seconds: a signal waits for it, and for one more that is on its way."""
MOST = 64
"""Steps a call: a cost that is paid once in 64 steps is as good as none."""
GAIN = 0.01
"""A chunk must be faster by this share: single steps serve signals sooner, and medians of ROUNDS know it no better."""
ROUNDS = 9

SERVED = 5.0
"""Seconds that a call may last for signals to be served; a chunk that is given and lasts longer earns a warning."""


class Trial(NamedTuple):
    """Where it is measured: in the run itself, whose `dispatch` keeps the programs, on a copy of its `state`."""

    dispatch: Dispatch
    state: TrainState
    images: Images
    order: jax.Array
    between: Callable[[], None] = lambda: None
    """Called every second or so; it may raise to end the measurement."""

    def take(self, state: TrainState, steps: int, chunk: int = 1) -> tuple[TrainState, float]:
        """The first `steps` steps of an epoch, `chunk` a call, as the training loop takes them. → (state, seconds)."""
        self.dispatch.chunk = chunk
        state = state._replace(step=jnp.zeros_like(state.step))
        flight = InFlight(lambda step, losses, seconds: None, chunk)
        begin = time.perf_counter()
        step = 0
        while step < steps:
            begun = step
            step += self.dispatch.span(begun)
            state, metrics = self.dispatch(begun, state, self.images, self.order)
            flight.add(begun, step - begun, metrics, timed=False)
        flight.drain()
        return state, time.perf_counter() - begin

    def alone(self, state: TrainState) -> tuple[TrainState, float]:
        """(state, median seconds of a step that is waited for), after one that compiles it."""
        state, _ = self.take(state, 1)
        times = []
        for _ in range(3):
            state, seconds = self.take(state, 1)
            times.append(seconds)
        self.between()
        return state, statistics.median(times)

    def copy(self) -> TrainState:
        return jax.tree.map(jnp.copy, self.state)


class Found(NamedTuple):
    """What was chosen, and by which times: candidate → median seconds a step."""

    choice: Any
    seconds: dict[Any, float]

    def __str__(self) -> str:
        times = ", ".join(f"{1e3 * seconds:.2f} ms by {candidate}" for candidate, seconds in self.seconds.items())
        return f"{self.choice} (a step takes {times})"


def settle(config: Config, trial: Trial, total_steps: int, listener: Listener) -> Config:
    """`config` with what it leaves open filled in, and the dispatch of `trial` set to what it says."""
    if config.train.seeds > 1:
        if config.train.seeds_by is None:
            found = seeds_by(trial)
            _tell(listener, "train.seeds_by", found)
            config = settled(config, seeds_by=found.choice)
        trial.dispatch.seeds_by = config.train.seeds_by
    if config.train.chunk is None:
        found = chunk(trial, total_steps)
        _tell(listener, "train.chunk", found)
        config = settled(config, chunk=found.choice)
    _use(trial.dispatch, config.train.chunk or 1, listener)
    return config


def as_before(config: Config, recorded: dict[str, Any]) -> Config:
    """`config` with the choices of the run that it goes on with, where it states none.

    A run of an earlier version of this program recorded none, and took single steps.
    """
    before = {"chunk": 1} | recorded["train"]
    left_out = [name for name in ("chunk", "seeds_by") if getattr(config.train, name) is None]
    return settled(config, **{name: before.get(name) for name in left_out})


def chunk(trial: Trial, total_steps: int) -> Found:
    """The steps a call that are fastest here."""
    dispatch = trial.dispatch
    if not dispatch.one_program:
        return Found(1, {})
    state, alone = trial.alone(trial.copy())
    candidate = largest(alone, dispatch.task.steps_per_epoch)
    if candidate == 1 or alone * total_steps < SHORT:
        return Found(1, {1: alone})
    state, _ = trial.take(state, candidate, candidate)  # compiles
    taken: dict[int, list[float]] = {1: [], candidate: []}
    for _ in range(ROUNDS):
        for size, seconds_a_step in taken.items():
            state, seconds = trial.take(state, candidate, size)
            seconds_a_step.append(seconds / candidate)
            trial.between()
    medians = {size: statistics.median(seconds) for size, seconds in taken.items()}
    return Found(candidate if medians[candidate] <= (1 - GAIN) * medians[1] else 1, medians)


def seeds_by(trial: Trial) -> Found:
    """How the gradients of several seeds are fastest here: "map" or "vmap".

    On a CPU "map" without a measurement: XLA's CPU convolutions have no fast form for several kernels at once, and
    our own run one after the other anyway. "map" as well where "vmap" does not fit into the device's memory,
    which then holds what the backward pass keeps of all seeds at once.
    """
    if jax.default_backend() == "cpu":
        return Found("map", {})
    dispatch, compiled = trial.dispatch, {}
    states: dict[str, TrainState] = {}
    steps = 1
    for form in ("map", "vmap"):
        dispatch.seeds_by, dispatch.compiled = form, {}
        try:
            states[form], alone = trial.alone(trial.copy())
        except jax.errors.JaxRuntimeError:
            if form == "map":
                raise
            break
        compiled[form] = dispatch.compiled
        steps = largest(alone, dispatch.task.steps_per_epoch) if dispatch.one_program else 1
    taken: dict[str, list[float]] = {form: [] for form in states}
    for _ in range(ROUNDS):
        for form, seconds_a_step in taken.items():
            dispatch.seeds_by, dispatch.compiled = form, compiled[form]
            states[form], seconds = trial.take(states[form], steps)
            seconds_a_step.append(seconds / steps)
            trial.between()
    medians = {form: statistics.median(seconds) for form, seconds in taken.items()}
    choice = min(medians, key=lambda form: medians[form])
    dispatch.seeds_by, dispatch.compiled = choice, compiled[choice]
    return Found(choice, medians)


def largest(step_seconds: float, steps_per_epoch: int) -> int:
    """The largest power of two of steps that last at most CALL, fit into an epoch and are at most MOST; at least 1."""
    most = min(MOST, steps_per_epoch, int(CALL / step_seconds))
    return 1 << max(most.bit_length() - 1, 0)


def _tell(listener: Listener, key: str, found: Found) -> None:
    if len(found.seconds) > 1:
        listener.measured(f"{key}={found}")


def _use(dispatch: Dispatch, chunk: int, listener: Listener) -> None:
    """Have `dispatch` take `chunk` steps a call, or single ones, with a warning, where a chunk would never begin."""
    dispatch.chunk = chunk
    if dispatch.span(0) < chunk:
        several = "under host dispatch, steps of different columns are different programs"
        why = f"an epoch has {dispatch.task.steps_per_epoch} steps" if dispatch.one_program else several
        listener.warn(f"train.chunk={chunk} has no effect: {why}.")
        dispatch.chunk = 1
