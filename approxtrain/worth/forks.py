"""How many images of exact training the steps of a schedule are worth: forked short runs from an exact one.

A run with every layer exact is trained to its end. After some of its epochs, or before the first, it is forked, several
times, each time with an order of the images and draws of its own: T steps under each schedule, and exact steps on a
half, three quarters and all of the images, which are T/2, 3T/4 and T steps. A schedule that sees smaller or fewer
images is used in the first half of its forks alone: what ended on small images would be judged by images unlike its
own. Each fork begins at the run's learning rate, which falls linearly to zero over its steps, however many, so that all
of them end as settled as they can be. What counts is the loss on the images that the run validates on (`shares.py`
makes shares of images of it).

A gradient's likeness to the exact one of the same batch says little of that: noise that is averaged away is no loss,
and a small bias that always points the same way is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.training import optimizer as optimizers
from approxtrain.training.batch import Keys
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.evaluate import Evaluator
from approxtrain.training.events import Listener
from approxtrain.training.feed import OnDevice
from approxtrain.training.parallel import Replicas
from approxtrain.training.probe import Cells
from approxtrain.training.step import Task, TrainState, set_up
from approxtrain.training.workload import Workload
from approxtrain.worth.alignment import Aligner, cells_of
from approxtrain.worth.fork_file import Fork, ForkFile

SHARES = (0.5, 0.75, 1.0)
"""Of the images, for the exact forks."""
EXACT = ScheduleConfig(name="full")
FIRST_SEED = 1_000_000
"""Of the forks: seeds that no run is likely to have."""


@dataclass(frozen=True)
class Arm:
    """What a fork does: a schedule, and its share of the T steps."""

    name: str
    schedule: ScheduleConfig
    share: float = 1.0
    until: float = 1.0
    """After this part of its steps a fork is exact."""
    begins: bool = False
    """Forked after the first of the epochs alone: what makes sense only from the start of a run on."""

    @classmethod
    def of(cls, name: str, schedule: ScheduleConfig) -> Arm:
        return cls(name, schedule, until=0.5 if schedule.image_sizes or schedule.image_shares else 1.0)


EXACT_ARMS = tuple(Arm(f"exact, {share:.0%} of the images", EXACT, share) for share in SHARES)
"""What others are held against."""
WHOLE = EXACT_ARMS[-1]


class Forks(Listener):
    """Forks the run that it listens to after each of the epochs `at` (0: before the first), by every arm; what `file`
    has is not done again.

    `told(text)` is given a line on what is going on, and `spent(seconds)` what a fork took of the run's time.
    `aligned`: whether the layers' alignment is measured as well.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        at: Sequence[int],
        steps: int,
        seeds: int,
        file: ForkFile,
        told: Callable[[str], None],
        spent: Callable[[float], None] = lambda seconds: None,
        *,
        aligned: bool = True,
    ) -> None:
        self.arms, self.at, self.steps, self.seeds, self.file, self.told = arms, at, steps, seeds, file, told
        self.spent, self.aligned = spent, aligned
        self._dispatches: dict[str, tuple[Dispatch, Evaluator]] = {}
        self._aligners: dict[Cells, Aligner] = {}
        self._stopping = False

    def begin(self, work: Workload, step: int) -> None:
        if work.dataset.streamed:
            raise ConfigError("Runs are forked on images in memory: data.limit=N takes fewer, data.stream=false all.")
        Replicas.refuse_several(work.config, "runs are forked")
        if self.steps > work.steps_per_epoch:
            raise ConfigError(f"--steps (={self.steps}) is more than the {work.steps_per_epoch} steps of an epoch.")
        self._work = work
        self._keys = Keys.of(range(FIRST_SEED, FIRST_SEED + self.seeds))
        self._feed = OnDevice(work.dataset, self._keys)
        self._task = set_up(work.model, work.config, work.steps_per_epoch, self._keys.init[:1])[0]

    def stopping(self) -> None:
        self._stopping = True

    def state(self, epoch: int, state: TrainState) -> None:
        if epoch not in self.at:
            return
        arms = due(self.arms, self.at, epoch)
        for number, arm in enumerate(arms, start=1):
            if self._stopping:
                return  # the run itself saves and ends at its next step
            if self.file.has(epoch, arm.name):
                continue
            self.told(f"epoch {epoch}: fork {number} of {len(arms)}, {arm.name}")
            begin = time.perf_counter()
            if (fork := self._fork(epoch, arm, state)) is not None:
                self.file.add(fork)
            self.spent(time.perf_counter() - begin)
        self._align(epoch, state)

    def _align(self, epoch: int, state: TrainState) -> None:
        """How the gradients of the schedules' layers point, after an epoch."""
        if not self.aligned or self._stopping or self.file.has_alignments(epoch):
            return
        begin = time.perf_counter()
        dispatches = [self._programs_of(arm)[0] for arm in self.arms]
        if not (cells := cells_of(dispatches, int(state.step), self.steps)):
            return  # the schedules are exact here
        self.told(f"epoch {epoch}: alignment of {len(cells)} layers and methods")
        if cells not in self._aligners:
            self._aligners[cells] = Aligner(dispatches[0], cells)
        found = self._aligners[cells](epoch, state, self._feed.images(0), self._feed.order(epoch + 1))
        self.file.add(*found)
        self.spent(time.perf_counter() - begin)

    def _fork(self, epoch: int, arm: Arm, state: TrainState) -> Fork | None:
        """None where a signal has come."""
        dispatch, evaluate = self._programs_of(arm)
        first, steps = int(state.step), steps_of(arm, self.steps)
        state, order = _of_several_seeds(state, self.seeds), self._feed.order(epoch + 1)
        own = max(1, round(arm.until * steps))
        for step in range(first, first + steps):
            if self._stopping:
                return None
            if step == first + own:
                dispatch, _ = self._programs_of(WHOLE)
            state, metrics = dispatch(step, state, self._feed.images(step), order)
            jax.block_until_ready(metrics)  # a signal is answered after one step
        found = evaluate(state)
        return Fork(
            epoch=epoch,
            first=first,
            arm=arm.name,
            steps=steps,
            losses=[one.loss for one in found],
            accuracies=[one.accuracy for one in found],
            until=own / steps,
        )

    def _programs_of(self, arm: Arm) -> tuple[Dispatch, Evaluator]:
        if arm.name not in self._dispatches:
            self._dispatches[arm.name] = self._made(arm)
        return self._dispatches[arm.name]

    def _made(self, arm: Arm) -> tuple[Dispatch, Evaluator]:
        work, config = self._work, self._work.config
        train = config.train.model_copy(update={"seeds": self.seeds, "chunk": 1, "average": None})
        rate = falling(self._task.learning_rate, work.steps_per_epoch, steps_of(arm, self.steps))
        optimizer = optimizers.optimizer(config, rate, work.steps_per_epoch, work.model)
        task: Task = self._task._replace(optimizer=optimizer, learning_rate=rate, train=train)
        schedule = Schedule.from_config(arm.schedule, work.model.layers, work.steps_per_epoch, train.epochs)
        dispatch = Dispatch(task, schedule, self._keys, train, mode=arm.schedule.dispatch)
        return dispatch, Evaluator(task, self._feed.validation)


def due(arms: Sequence[Arm], at: Sequence[int], epoch: int) -> list[Arm]:
    """What is forked after an epoch, of all that is forked after the epochs `at`."""
    return [arm for arm in arms if not arm.begins or epoch == at[0]]


def steps_of(arm: Arm, steps: int) -> int:
    """Of its fork, where one on all of the images has `steps`."""
    return max(1, round(arm.share * steps))


def falling(rate: optax.Schedule, steps_per_epoch: int, steps: int) -> optax.Schedule:
    """From a run's rate at the start of an epoch linearly to zero, in `steps` steps.

    The same function after whichever epoch, so that the program of a fork serves all of them.
    """

    def of(count: Any) -> Any:
        within = count % steps_per_epoch
        return rate(count - within) * jnp.maximum(1 - within / steps, 0)

    return of


def _of_several_seeds(state: TrainState, seeds: int) -> TrainState:
    """The state of one seed, once for each fork; the moving average of the weights is left out."""
    repeated = partial(jnp.repeat, repeats=seeds, axis=0)
    return jax.tree.map(lambda leaf: repeated(leaf) if leaf.ndim else jnp.copy(leaf), state._replace(average={}))


def planned(arms: Sequence[Arm], at: Sequence[int], steps: int, seeds: int) -> int:
    """Training steps of all forks."""
    return seeds * sum(steps_of(arm, steps) for epoch in at for arm in due(arms, at, epoch))


def epochs_to_fork(epochs: int, count: int) -> list[int]:
    """`count` epochs, evenly between the first and the last but one; fewer where the run has not as many."""
    return sorted({int(epoch) for epoch in np.linspace(1, max(epochs - 1, 1), min(count, max(epochs - 1, 1))).round()})
