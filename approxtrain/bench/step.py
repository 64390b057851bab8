"""Whole training steps side by side: the exact one, in the places where a step can stand, schedules, and peers.

    full          our network, every method `full`, one compiled step
    loop          the same inside `lax.fori_loop`, per step
    switch        the same with forward and backward pass as a branch of `lax.switch`
    switch loop   that inside of a loop, as a chunk of steps is, but without their metrics
    SCHEDULE      a whole period of a schedule from step 0, per step (at most PERIOD steps), as it is dispatched
    plain         the network on Flax's and XLA's own operations (`plain`)
    torch …       the network in PyTorch (`torch_step`)

Every contender has its own state and consumes it. What a batch holds makes no difference to the time. Before each
sample a contender takes a step (a loop: all of its steps) that is not timed, since in training too the step before is
one of its own. In the same rounds each layer's convolutions run alone (`step_parts`): that gives the split of the step,
and a schedule's bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain import data, models
from approxtrain.bench import torch_peer, torch_step
from approxtrain.bench.plain import PlainNetwork
from approxtrain.bench.step_parts import REPEATS, Parts
from approxtrain.bench.timing import Times, interleaved
from approxtrain.config import Config, steps_per_epoch
from approxtrain.models.network import Network
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.config import Rule, StepRange
from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.step import Task, TrainState, set_up

LOOP = 2
"""Steps in one call of a loop."""
PERIOD = 16
"""The most steps of a schedule that one call takes."""
NEVER = 2**30
"""A step that no benchmark reaches."""
PEERS = ("plain", "torch")


@dataclass(frozen=True)
class Contender:
    """A call that takes `steps` steps and does not return before they are done."""

    name: str
    call: Callable[[], None]
    steps: int = 1
    compiled: dict[Any, Any] = field(default_factory=dict)
    """The programs that it runs, filled by the first call."""
    first: Callable[[], None] | None = None
    """Takes one step, where a call takes several."""

    @property
    def before(self) -> Callable[[], None]:
        """What comes untimed before a call: a step of its own, as one does in training, not of another contender."""
        return self.first or self.call

    @property
    def temporaries(self) -> int | None:
        """Bytes that the largest of its programs holds at once besides its arguments and results: activations and
        residuals, for the most part. What a library called by it allocates for itself is not in it."""
        sizes = [program.memory_analysis().temp_size_in_bytes for program in self.compiled.values()]
        return max(sizes) if sizes else None


@dataclass(frozen=True)
class Measured:
    """What one run of a bench brought: seconds a step in each round, by contender and by part."""

    times: dict[str, Times]
    contenders: dict[str, Contender]
    schedules: dict[str, Schedule]
    parts: Parts
    left_out: dict[str, str]
    """Peers that could not run, and why."""


class StepBench:
    """Builds the contenders of one model and configuration, and times them interleaved."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = models.get(config.model.name)
        self.steps_per_epoch = steps_per_epoch(config)
        self._set_up: dict[Any, tuple[Task, TrainState]] = {}
        self.dataset = data.load(config.data)
        self.data = {"name": self.dataset.name, "sha256": self.dataset.sha256}
        statistics = channel_statistics(self.dataset.train_images)
        self.images = Images(*map(jnp.asarray, (self.dataset.train_images, self.dataset.train_labels, *statistics)))
        self.keys = Keys.of(config.train.seed)
        self.order = jax.jit(epoch_order, static_argnums=2)(
            self.keys.order, jnp.int32(1), len(self.dataset.train_labels)
        )

    def run(
        self,
        schedules: Mapping[str, ScheduleConfig],
        rounds: int,
        *,
        peers: Sequence[str] = PEERS,
        on_round: Callable[[], None] = lambda: None,
    ) -> Measured:
        """Seconds a step of the exact step, of each schedule by its name that is not exact, and of the peers."""
        contenders = [
            self.single("full", self._full(), "host"),
            self._loop("loop", self._full(), "host"),
            self.single("switch", self._never_switched(), "switch"),
            self._loop("switch loop", self._never_switched(), "switch"),
        ]
        built = {name: self._from(config) for name, config in schedules.items()}
        built = {name: schedule for name, schedule in built.items() if schedule != self._full()}
        for name, schedule in built.items():
            contenders.append(self.single(name, schedule, schedules[name].dispatch, steps=period(schedule)))
        if "plain" in peers:
            contenders.append(self.single("plain", self._full(), "host", PlainNetwork))
        left_out: dict[str, str] = {}
        if "torch" in peers and torch_peer.installed() and jax.default_backend() == "cpu":
            for name, step in torch_step.peers(self.model, self.config, self.dataset):
                if isinstance(step, str):
                    left_out[name] = step
                else:
                    contenders.append(Contender(name, step))
        parts = Parts(self.model, self.config.train.batch_size, jnp.dtype(self.config.train.precision))
        calls = {contender.name: contender.call for contender in contenders} | parts.calls
        before = {contender.name: contender.before for contender in contenders} | parts.before
        taken = interleaved(calls, rounds, before=before, on_round=on_round)
        steps = dict.fromkeys(parts.calls, REPEATS) | {contender.name: contender.steps for contender in contenders}
        times = {
            name: Times(tuple(seconds / steps[name] for seconds in found.seconds)) for name, found in taken.items()
        }
        return Measured(times, {c.name: c for c in contenders}, built, parts, left_out)

    def _from(self, config: ScheduleConfig) -> Schedule:
        return Schedule.from_config(config, self.model.layers, self.steps_per_epoch)

    def _full(self) -> Schedule:
        return self._from(ScheduleConfig(name="full"))

    def _never_switched(self) -> Schedule:
        """`full` at every step that is taken, and another column, so that there is something to switch between."""
        rule = Rule(method="zero", steps=StepRange(start=NEVER))
        return self._from(ScheduleConfig(rules=(rule,), dispatch="switch"))

    def _dispatch(self, schedule: Schedule, mode: str, kind: type[Network] = Network) -> tuple[Dispatch, TrainState]:
        if kind not in self._set_up:
            self._set_up[kind] = set_up(self.model, self.config, self.steps_per_epoch, self.keys.init, kind)
        task, state = self._set_up[kind]
        state = jax.tree.map(jnp.copy, state)  # each contender consumes its own
        train = self.config.train
        dispatch = Dispatch(task, schedule, self.keys, batch_size=train.batch_size, augment=train.augment, mode=mode)
        return dispatch, state

    def single(
        self, name: str, schedule: Schedule, mode: str, kind: type[Network] = Network, steps: int = 1
    ) -> Contender:
        """Takes steps 0 to `steps` − 1 of the schedule, with parameters that go on from call to call."""
        dispatch, state = self._dispatch(schedule, mode, kind)

        def take(steps: int) -> None:
            nonlocal state
            state = state._replace(step=jnp.zeros_like(state.step))
            for step in range(steps):
                state, _ = dispatch(step, state, self.images, self.order)
            jax.block_until_ready(state)

        return Contender(name, partial(take, steps), steps, dispatch.compiled, partial(take, 1))

    def _loop(self, name: str, schedule: Schedule, mode: str) -> Contender:
        dispatch, state = self._dispatch(schedule, mode)
        step = dispatch.step_function(0)

        def several(state: TrainState, images: Images, order: jax.Array, keys: Keys) -> TrainState:
            return lax.fori_loop(0, LOOP, lambda _, state: step(state, images, order, keys)[0], state)

        arguments = (self.images, self.order, self.keys)
        program = jax.jit(several, donate_argnums=0).lower(state, *arguments).compile()

        def call() -> None:
            nonlocal state
            state = jax.block_until_ready(program(state, *arguments))

        return Contender(name, call, LOOP, {0: program})


def period(schedule: Schedule) -> int:
    """Steps of a schedule that are timed: one period of its first phase, if that is no longer than PERIOD."""
    return min(schedule.phases[0][1].shape[1], PERIOD)
