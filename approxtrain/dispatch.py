"""From a schedule to compiled steps: which column's step runs when.

`host`    one compiled step a column; Python looks the column up and calls its step.
`switch`  one program: the column is looked up on the device, in the static mask, and `lax.switch` picks its branch.

Both compute the same thing. The batch is gathered before the switch, so the data set is never an operand of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain import programs
from approxtrain.batch import Images, Keys, augmented_batch, plain_batch
from approxtrain.listener import Listener
from approxtrain.schedule import Column, Schedule
from approxtrain.step import StepMetrics, Task, TrainState, update


class Dispatch:
    """Runs the training step that is due. Compiles each column once, before its first use."""

    def __init__(
        self,
        task: Task,
        schedule: Schedule,
        keys: Keys,
        *,
        batch_size: int,
        augment: bool,
        mode: str,
        listener: Listener | None = None,
    ) -> None:
        self.task, self.schedule, self.keys = task, schedule, keys
        self.batch_size, self.augment = batch_size, augment
        self.mode = choose_mode(mode, len(schedule.columns))
        self.listener = listener or Listener()
        self.compiled: dict[int, Any] = {}
        """Program number → executable: the column's index under `host`, 0 under `switch`."""
        self.compile_seconds = 0.0

    def __call__(
        self, step: int, state: TrainState, images: Images, order: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
        """Run step `step` (which `state` also holds) on its batch of this epoch's `order`. `state` is consumed."""
        program = self.schedule.index(step) if self.mode == "host" else 0
        if program not in self.compiled:
            self._compile(program, state, images, order)
        return self.compiled[program](state, images, order, self.keys)

    def _compile(self, program: int, state: TrainState, images: Images, order: jax.Array) -> None:
        total, number = len(self.schedule.columns), len(self.compiled) + 1
        self.listener.compiling(number, number if self.mode == "host" else total, total)
        start = time.perf_counter()
        function = jax.jit(self.step_function(program), donate_argnums=0)
        self.compiled[program] = programs.compiled(function, state, images, order, self.keys)
        seconds = time.perf_counter() - start
        self.compile_seconds += seconds
        self.listener.compiled(seconds)

    def step_function(self, program: int) -> Callable[..., tuple[TrainState, StepMetrics]]:
        """The function that is compiled: (state, images, order, keys) → (state, metrics)."""

        def step(state: TrainState, images: Images, order: jax.Array, keys: Keys):
            x, labels = self._batch(state.step, images, order, keys)
            key = jax.random.fold_in(keys.gradient, state.step)
            if self.mode == "host":
                return self._branch(self.schedule.columns[program])(state, x, labels, key)
            branches = [self._branch(column) for column in self.schedule.columns]
            return lax.switch(device_index(self.schedule, state.step), branches, state, x, labels, key)

        return step

    def _branch(self, column: Column) -> Callable[..., tuple[TrainState, StepMetrics]]:
        """(state, x, labels, key) → (state, metrics): the step of one column on its batch."""
        return partial(update, self.task, column, frozen_prefix=self.schedule.frozen_prefix)

    def _batch(self, step: jax.Array, images: Images, order: jax.Array, keys: Keys) -> tuple[jax.Array, jax.Array]:
        start = step % self.task.steps_per_epoch * self.batch_size
        index = lax.dynamic_slice_in_dim(order, start, self.batch_size)
        if self.augment:
            x = augmented_batch(images, index, jax.random.fold_in(keys.augment, step))
        else:
            x = plain_batch(images, index)
        return x, images.labels[index]


def choose_mode(mode: str, columns: int) -> str:
    """`auto` is `host`; a schedule of one column has nothing to switch between."""
    return "host" if mode == "auto" or columns == 1 else mode


def device_index(schedule: Schedule, step: jax.Array) -> jax.Array:
    """`schedule.index(step)`, computed inside a compiled program from the schedule's static table."""
    starts, periods, offsets, table = (jnp.asarray(part) for part in schedule.index_table())
    phase = jnp.searchsorted(starts, step, side="right") - 1
    return table[offsets[phase] + (step - starts[phase]) % periods[phase]]
