"""Whole training steps side by side: ours, in the places where a step can stand, and the plain network.

    plain    Flax's and XLA's own operations (`bench/plain.py`), one jitted step
    ours     our convolution, every method `full`, one jitted step
    loop     the same inside `lax.fori_loop`, per step
    switch   the same as a branch of `lax.switch`
    schedule a whole period of the configuration's schedule from step 0, per step (at most PERIOD steps)

Every contender has its own state and consumes it. What a batch holds makes no difference to the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain import data, models
from approxtrain.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.bench.plain import PlainNetwork
from approxtrain.bench.timing import Times, interleaved, ratio
from approxtrain.config import Config, steps_per_epoch
from approxtrain.dispatch import Dispatch
from approxtrain.models.network import Network
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.config import Rule, StepRange
from approxtrain.step import Task, TrainState, set_up

LOOP = 2
"""Steps in one call of `loop`."""
PERIOD = 16
"""The most steps of a schedule that one call takes."""
NEVER = 2**30
"""A step that no benchmark reaches."""


class StepBench:
    """Builds the contenders of one configuration and times them interleaved."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = models.get(config.model.name)
        self.steps_per_epoch = steps_per_epoch(config)
        self._set_up: dict[Any, tuple[Task, TrainState]] = {}
        dataset = data.load(config.data)
        self.data = {"name": dataset.name, "sha256": dataset.sha256}
        statistics = channel_statistics(dataset.train_images)
        self.images = Images(*map(jnp.asarray, (dataset.train_images, dataset.train_labels, *statistics)))
        self.keys = Keys.of(config.train.seed)
        self.order = jax.jit(epoch_order, static_argnums=2)(self.keys.order, jnp.int32(1), len(dataset.train_labels))

    def run(self, rounds: int, on_round: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Milliseconds a step of each contender, and ratios to `plain` with their 95 % intervals."""
        calls = {
            "plain": self._single(self._full(), "host", PlainNetwork),
            "ours": self._single(self._full(), "host"),
            "loop": self._loop(),
            "switch": self._single(self._never_switched(), "switch"),
        }
        steps = {"loop": LOOP}
        schedule = self._from(self.config.schedule)
        if schedule != self._full():
            steps["schedule"] = min(schedule.phases[0][1].shape[1], PERIOD)
            calls["schedule"] = self._single(schedule, self.config.schedule.dispatch, steps=steps["schedule"])
        taken = interleaved(calls, rounds, on_round=on_round)
        times = {
            name: Times(tuple(seconds / steps.get(name, 1) for seconds in found.seconds))
            for name, found in taken.items()
        }
        return {
            "model": self.model.name,
            "batch": self.config.train.batch_size,
            "precision": self.config.train.precision,
            "data": self.data,
            "schedule": self.config.schedule.title,
            "seed": self.config.train.seed,
            "rounds": rounds,
            "steps_a_sample": {name: steps.get(name, 1) for name in times},
            "milliseconds": {name: [1e3 * s for s in taken.seconds] for name, taken in times.items()},
            "ratio_to_plain": {
                name: asdict(found) | {"verdict": found.verdict}
                for name, taken in times.items()
                if name != "plain"
                for found in [ratio(taken, times["plain"])]
            },
        }

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

    def _single(
        self, schedule: Schedule, mode: str, kind: type[Network] = Network, steps: int = 1
    ) -> Callable[[], None]:
        """A call takes steps 0 to `steps` − 1 of the schedule, with parameters that go on from call to call."""
        dispatch, state = self._dispatch(schedule, mode, kind)

        def call() -> None:
            nonlocal state
            state = state._replace(step=jnp.zeros_like(state.step))
            for step in range(steps):
                state, _ = dispatch(step, state, self.images, self.order)
            jax.block_until_ready(state)

        return call

    def _loop(self) -> Callable[[], None]:
        dispatch, state = self._dispatch(self._full(), "host")
        step = dispatch.step_function(0)

        def several(state: TrainState, images: Images, order: jax.Array, keys: Keys) -> TrainState:
            return lax.fori_loop(0, LOOP, lambda _, state: step(state, images, order, keys)[0], state)

        compiled = jax.jit(several, donate_argnums=0).lower(state, self.images, self.order, self.keys).compile()

        def call() -> None:
            nonlocal state
            state = jax.block_until_ready(compiled(state, self.images, self.order, self.keys))

        return call


def medians(result: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.median(samples)) for name, samples in result["milliseconds"].items()}
