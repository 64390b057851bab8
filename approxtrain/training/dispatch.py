"""From a schedule to compiled steps: which column's step runs when.

`host`    one compiled step a column; Python looks the column up and calls its step.
`switch`  one program: the column is looked up on the device, in the static mask, and `lax.switch` picks its branch.

Both compute the same thing, but for rounding. The batch is gathered before the switch, so the data set is never an
operand of it, and the optimiser comes after it, so that the state is written in place.

Where one program serves every step, `chunk` of them may be one call: a `lax.scan` over that step. Chunks are aligned:
they begin at multiples of `chunk` counted from the start of an epoch, and what is left at its end runs step by step. So
which steps go together depends on the step alone, and a run that is resumed between two calls groups them as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain.schedule import Column, Schedule
from approxtrain.training.batch import Images, Keys, augmented_batch, plain_batch
from approxtrain.training.events import Listener
from approxtrain.training.seeds import apply_all, backward_all
from approxtrain.training.step import Backward, StepMetrics, Task, TrainState, apply, backward, held_by


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
        chunk: int = 1,
        seeds_by: str | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.task, self.schedule, self.keys = task, schedule, keys
        self.batch_size, self.augment = batch_size, augment
        self.mode = choose_mode(mode, len(schedule.columns))
        self.chunk = chunk
        self.seeds_by = seeds_by
        """ "map" or "vmap" where state, order and keys are those of several seeds (`seeds.py`), None for one."""
        self.listener = listener or Listener()
        self.compiled: dict[tuple[int, int], Any] = {}
        """(program, steps a call) → executable; a program is the column's index under `host`, 0 under `switch`."""
        self.compile_seconds = 0.0

    @property
    def one_program(self) -> bool:
        """Whether every step is the same program, so that several can be one call."""
        return self.mode == "switch" or len(self.schedule.columns) == 1

    def span(self, step: int) -> int:
        """How many steps the call at `step` takes: `chunk` where a whole one begins, else 1."""
        place = step % self.task.steps_per_epoch
        whole = place % self.chunk == 0 and place + self.chunk <= self.task.steps_per_epoch
        return self.chunk if self.one_program and whole else 1

    def __call__(
        self, step: int, state: TrainState, images: Images, order: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
        """Run `span(step)` steps from `step` (which `state` also holds) on their batches of this epoch's `order`.

        `state` is consumed. Of more than one step the metrics have a leading axis of steps.
        """
        program = self.schedule.index(step) if self.mode == "host" else 0, self.span(step)
        if program not in self.compiled:
            self._compile(*program, state, images, order)
        return self.compiled[program](state, images, order, self.keys)

    def _compile(self, program: int, steps: int, state: TrainState, images: Images, order: jax.Array) -> None:
        total = len(self.schedule.columns)
        number = sum(others == steps for _, others in self.compiled) + 1
        self.listener.compiling(number, number if self.mode == "host" else total, total, steps)
        start = time.perf_counter()
        function = self.step_function(program) if steps == 1 else self.chunk_function(program, steps)
        function = jax.jit(function, donate_argnums=0)
        self.compiled[program, steps] = function.lower(state, images, order, self.keys).compile()
        seconds = time.perf_counter() - start
        self.compile_seconds += seconds
        self.listener.compiled(seconds)

    def step_function(self, program: int) -> Callable[..., tuple[TrainState, StepMetrics]]:
        """The function that is compiled: (state, images, order, keys) → (state, metrics)."""
        switched = self.mode == "switch"
        columns = self.schedule.columns if switched else [self.schedule.columns[program]]

        def step(state: TrainState, images: Images, order: jax.Array, keys: Keys):
            index = device_index(self.schedule, state.step) if switched else 0
            inputs = self.inputs(state.step, images, order, keys)
            found = lax.switch(index, [self._backward(one) for one in columns], state.params, state.stats, *inputs)
            frozen_prefix = self.schedule.frozen_prefix
            held = held_by(self.task.model, columns, state.params, index, frozen_prefix=frozen_prefix)
            return (apply if self.seeds_by is None else apply_all)(self.task, state, found, held)

        return step

    def chunk_function(self, program: int, steps: int) -> Callable[..., tuple[TrainState, StepMetrics]]:
        """`steps` steps as one function of the same arguments; its metrics are those of all of them."""
        step = self.step_function(program)

        def chunk(state: TrainState, images: Images, order: jax.Array, keys: Keys):
            return lax.scan(lambda state, _: step(state, images, order, keys), state, length=steps)

        return chunk

    def _backward(self, column: Column) -> Callable[..., Backward]:
        """(params, stats, x, labels, key) → what one column finds on its batch."""
        frozen = self.schedule.frozen_prefix
        if self.seeds_by is None:
            return partial(backward, self.task, column, frozen_prefix=frozen)
        return partial(backward_all, self.task, column, by=self.seeds_by, frozen_prefix=frozen)

    def inputs(self, step: jax.Array, images: Images, order: jax.Array, keys: Keys) -> tuple[jax.Array, ...]:
        """Batch, labels and key of a step; of several seeds along a leading axis."""

        def one(order: jax.Array, keys: Keys) -> tuple[jax.Array, ...]:
            return *self._batch(step, images, order, keys), jax.random.fold_in(keys.gradient, step)

        return one(order, keys) if self.seeds_by is None else jax.vmap(one)(order, keys)

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
