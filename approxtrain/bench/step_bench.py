"""Whole training steps side by side: the exact one, in the places where a step can stand, schedules, and peers.

    full          our network, every method `full`, one compiled step
    loop          several of them in one call, per step
    switch        the same step with forward and backward pass as a branch of `lax.switch`
    switch loop   several of these in one call, per step
    SCHEDULE      whole periods of a schedule from step 0, per step (a period of at most PERIOD steps)
    plain         the network on Flax's and XLA's own operations (`plain`)
    torch …       the network in PyTorch (`torch_step`)

What a batch holds makes no difference to the time. On a GPU a sample is QUEUED steps in a row, which the host sends
without waiting, as in training. In the same rounds each layer's convolutions run alone (`step_parts`): that gives the
split of the step, and a schedule's bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain import data
from approxtrain.bench import step_parts, torch_peer, torch_step
from approxtrain.bench.plain import plain
from approxtrain.bench.step_parts import LayerConvolution
from approxtrain.bench.timing import Times, interleaved
from approxtrain.config import Config, steps_per_epoch
from approxtrain.data import ImageSet
from approxtrain.errors import ConfigError
from approxtrain.models.approximate import approximate
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.config import Rule
from approxtrain.schedule.ranges import StepRange
from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.parallel import Replicas
from approxtrain.training.step import Task, TrainState, set_up

LOOP = 2
"""Steps in one call of a loop, on a CPU."""
QUEUED = 20
PERIOD = 16
PEERS = ("plain", "torch")


@dataclass(frozen=True)
class StepContender:
    """A call that takes `steps` steps and does not return before they are done."""

    call: Callable[[], None]
    steps: int = 1
    compiled: dict[Any, Any] = field(default_factory=dict)
    """The programs that it runs, filled by the first call."""

    @property
    def temporaries(self) -> int | None:
        """Bytes that the largest of its programs holds at once besides its arguments and results: activations and
        residuals, for the most part. What a library called by it allocates for itself is not in it."""
        return max((each.memory_analysis().temp_size_in_bytes for each in self.compiled.values()), default=None)


@dataclass(frozen=True)
class StepTimes:
    """What one run of a bench brought: seconds a step in each round, by contender and by convolution."""

    times: dict[str, Times]
    contenders: dict[str, StepContender]
    schedules: dict[str, Schedule]
    parts: Sequence[LayerConvolution]
    left_out: dict[str, str]
    """Peers that could not run, and why."""


class StepBench:
    """Builds the contenders of one model and configuration, and times them interleaved."""

    def __init__(self, config: Config, dataset: ImageSet | None = None) -> None:
        Replicas.refuse_several(config, "steps are timed")
        self.config = config
        self._set_up: dict[int, tuple[Task, TrainState]] = {}
        self.dataset = dataset or data.load(config.data)
        if self.dataset.streamed:
            raise ConfigError("Steps are timed on images in memory: data.limit=N takes fewer, data.stream=false all.")
        self.steps_per_epoch = steps_per_epoch(config, self.dataset)
        self.data = self.dataset.identity
        self.model = config.model.network().on(self.dataset.image_shape, len(self.dataset.class_names))
        train, _ = self.dataset.arrays
        self.images = Images(*map(jnp.asarray, (train.images, train.labels, *channel_statistics(train.images))))

    def run(
        self,
        schedules: Mapping[str, ScheduleConfig],
        rounds: int,
        *,
        peers: Sequence[str] = PEERS,
        on_round: Callable[[], None] = lambda: None,
    ) -> StepTimes:
        """Seconds a step of the exact step, of each schedule by its name that is not exact, and of the peers."""
        built = {name: self.schedule(config) for name, config in schedules.items()}
        built = {name: schedule for name, schedule in built.items() if schedule != self.full}
        modes = {name: schedules[name].dispatch for name in built}
        contenders, left_out = self._contenders(built, modes, peers)
        train = self.config.train
        parts = list(step_parts.build(self.model, train.batch_size, jnp.dtype(train.precision)))
        alone = {part.name: StepContender(part.run, part.repeats) for part in parts}
        timed = contenders | alone
        taken = interleaved({name: each.call for name, each in timed.items()}, rounds, on_round=on_round)
        times = {name: taken[name].divided_by(each.steps) for name, each in timed.items()}
        return StepTimes(times, contenders, built, parts, left_out)

    def _contenders(
        self, schedules: Mapping[str, Schedule], modes: Mapping[str, str], peers: Sequence[str]
    ) -> tuple[dict[str, StepContender], dict[str, str]]:
        queued, together = _queued(), max(_queued(), LOOP)
        # `full` at every step that is taken, and another column, so that there is something to switch between
        never = self.schedule(ScheduleConfig(rules=(Rule(method="zero", steps=StepRange(start=2**30)),)))
        contenders = {
            "full": self.contender(self.full, steps=queued),
            "loop": self.contender(self.full, steps=together, chunk=together),
            "switch": self.contender(never, "switch", steps=queued),
            "switch loop": self.contender(never, "switch", steps=together, chunk=together),
        }
        for name, schedule in schedules.items():
            contenders[name] = self.whole_periods(schedule, modes[name])
        if "plain" in peers:
            contenders["plain"] = self.contender(self.full, follow=plain, steps=queued)
        left_out: dict[str, str] = {}
        if "torch" in peers and torch_peer.takes_part():
            for name, step in torch_step.peers(self.model, self.config, self.dataset):
                if isinstance(step, str):
                    left_out[name] = step
                else:
                    contenders[name] = StepContender(step)
        return contenders, left_out

    def schedule(self, config: ScheduleConfig) -> Schedule:
        return Schedule.from_config(config, self.model.layers, self.steps_per_epoch, self.config.train.epochs)

    def whole_periods(self, schedule: Schedule, mode: str = "host") -> StepContender:
        """As many of a schedule as fill a sample."""
        period = min(schedule.phases[0][1].shape[1], PERIOD)
        return self.contender(schedule, mode, steps=ceil(_queued() / period) * period)

    @property
    def full(self) -> Schedule:
        return self.schedule(ScheduleConfig(name="full"))

    def contender(self, schedule: Schedule, mode: str = "host", *, steps: int = 1, **setting: Any) -> StepContender:
        """Takes steps 0 to `steps` − 1 of the schedule, with parameters that go on from call to call.

        `setting`: what else `dispatch` takes.
        """
        dispatch, state, order = self.dispatch(schedule, mode, **setting)

        def take() -> None:
            nonlocal state
            state, step = state._replace(step=jnp.zeros_like(state.step)), 0
            while step < steps:
                state, _ = dispatch(step, state, self.images, order)
                step += dispatch.span(step)
            jax.block_until_ready(state)

        return StepContender(take, steps, dispatch.compiled)

    def dispatch(
        self, schedule: Schedule, mode: str = "host", follow: Any = approximate, chunk: int = 1, seeds: int = 1
    ) -> tuple[Dispatch, TrainState, jax.Array]:
        """What runs a schedule's steps, the state before the first one, and the order of the images.

        `follow` makes a network follow a column.
        """
        train = self.config.train.model_copy(update={"chunk": chunk, "seeds": seeds})
        keys = Keys.of(train.all_seeds)
        if seeds not in self._set_up:
            self._set_up[seeds] = set_up(self.model, self.config, self.steps_per_epoch, keys.init)
        task, state = self._set_up[seeds]
        state = jax.tree.map(jnp.copy, state)  # each contender consumes its own
        order = jax.jit(epoch_order, static_argnames="size")(
            keys.order, epoch=jnp.int32(1), size=len(self.dataset.train)
        )
        return Dispatch(task._replace(follow=follow), schedule, keys, train, mode=mode), state, order


def _queued() -> int:
    """Steps of a sample."""
    return QUEUED if jax.default_backend() == "gpu" else 1
