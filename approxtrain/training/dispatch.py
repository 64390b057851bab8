"""From a schedule to compiled steps: which column's step runs when.

`host`    one compiled step a column; Python looks the column up and calls its step. Of several devices one for each
          thing besides that they may send at its end, which is its gradients or, under local SGD, nothing or all.
`switch`  one program: the column is looked up on the device, in the static mask, and `lax.switch` picks its branch.

Both compute the same thing, but for rounding. On a CPU switching costs nothing, and `auto` is `switch`. On a GPU a
conditional makes the device wait for the host, and `auto` is `host`; so it is on several devices (`parallel.py`), where
no conditional may hold what they send each other. The batch is gathered before the switch, so the
data set is never an operand of it, and the optimiser comes after it, so that the state is written in place.

Where one program serves every step, `chunk` of them may be one call: a `lax.scan` over that step. Chunks are aligned:
they begin at multiples of `chunk` counted from the start of an epoch, and what is left at its end runs step by step. So
which steps go together depends on the step alone, and a run that is resumed between two calls groups them as before.

A call costs some time, which a chunk pays once. Where the configuration leaves its steps open, `steps_a_call` decides
once in the life of a run, after a first epoch of single steps, because it needs the time of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain.config import TrainConfig
from approxtrain.schedule import Schedule
from approxtrain.schedule.local import Sharing
from approxtrain.training.batch import Images, Keys, augmented_batch, normalised, plain_batch
from approxtrain.training.events import Listener
from approxtrain.training.finite import not_finite
from approxtrain.training.moved import factors_of, held_by
from approxtrain.training.parallel import ONE, Replicas
from approxtrain.training.seeds import default_form, over_seeds
from approxtrain.training.step import Backward, StepMetrics, Task, TrainState, backward, optimizer_step
from approxtrain_kernels.replicas import own_number, own_part

StepFunction = Callable[[TrainState, Images, jax.Array, Keys], tuple[TrainState, StepMetrics]]


LONGEST_CALL = 1.0
"""The longest that a call may last, in seconds: a signal waits for it, and for one more that is on its way."""
MOST_STEPS = 64
"""Steps a call: a cost that is paid once in 64 steps is as good as none."""
LEAST_LEFT = 600.0
"""Seconds of steps that must be left, so that they earn back the compiling of a second program."""


class Dispatch:
    """Runs the training step that is due. Compiles each program once, before its first use."""

    def __init__(
        self,
        task: Task,
        schedule: Schedule,
        keys: Keys,
        train: TrainConfig,
        *,
        mode: str = "auto",
        streamed: bool = False,
        replicas: Replicas = ONE,
        listener: Listener | None = None,
        compile_seconds: float = 0.0,
    ) -> None:
        self.task, self.schedule, self.keys, self.train = task, schedule, keys, train
        self.replicas = replicas
        """What `state`, `images` and `order` are to be on; a program of several has one column."""
        self.mode = choose_mode(mode if replicas.count == 1 else "host", len(schedule.columns))
        numbers = range(len(schedule.columns))
        apart: list[Sequence[int]] = [[number] for number in numbers] * len(schedule.local.kinds)
        self.programs: list[Sequence[int]] = [numbers] if self.mode == "switch" else apart
        """The columns that each program serves, by their index in `schedule.columns`; all of them again for each kind
        of sharing."""
        self._keys = replicas.place(keys)
        self.seeds_by = train.seeds_by or default_form()
        self.streamed = streamed
        """Whether a step is given its own images alone, cut and flipped already, and each replica its part of them."""
        self.chunk = 1 if streamed else train.chunk or 1
        self.listener = listener or Listener()
        self.compiled: dict[tuple[int, int], Any] = {}
        """(number of the program, steps a call) → executable."""
        self.compile_seconds = compile_seconds
        """Including those of the dispatch that this one follows."""

    def span(self, step: int) -> int:
        """How many steps the call at `step` takes: `chunk` where a whole one begins, else 1."""
        position = step % self.task.steps_per_epoch
        whole = position % self.chunk == 0 and position + self.chunk <= self.task.steps_per_epoch
        return self.chunk if len(self.programs) == 1 and whole else 1

    def __call__(
        self, step: int, state: TrainState, images: Images, order: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
        """Run `span(step)` steps from `step` (which `state` also holds) on their batches of this epoch's `order`.

        `state` is consumed. Of more than one step the metrics have a leading axis of steps, before that of seeds.
        """
        return self.program(step, state, images, order)(state, images, order, self._keys)

    def program(self, step: int, state: TrainState, images: Images, order: jax.Array) -> Any:
        """The executable of the call at `step`, compiled unless it was before."""
        program = self._number(step), self.span(step)
        if program not in self.compiled:
            self._compile(*program, state, images, order)
        return self.compiled[program]

    def _number(self, step: int) -> int:
        if len(self.programs) == 1:
            return 0
        local, columns = self.schedule.local, len(self.schedule.columns)
        return local.kinds.index(local.at(step)) * columns + self.schedule.index(step)

    def _compile(self, program: int, steps: int, *arguments: Any) -> None:
        first = sum(len(self.programs[other]) for other, span in self.compiled if span == steps) + 1
        last = first + len(self.programs[program]) - 1
        self.listener.compiling(first, last, sum(map(len, self.programs)), steps)
        start = time.perf_counter()
        function = self.step_function(program) if steps == 1 else self.chunk_function(program, steps)
        jitted = jax.jit(self.replicas.program(function, streamed=self.streamed), donate_argnums=0)
        self.compiled[program, steps] = jitted.lower(*arguments, self._keys).compile()
        seconds = time.perf_counter() - start
        self.compile_seconds += seconds
        self.listener.compiled(seconds)

    def step_function(self, program: int) -> StepFunction:
        """The function that is compiled, of one replica: (state, images, order, keys) → (state, metrics)."""
        schedule, model, numbers = self.schedule, self.task.model, self.programs[program]
        columns = [schedule.columns[number] for number in numbers]
        factors = [schedule.column_factors[number] for number in numbers]
        absent = [schedule.column_absent[number] for number in numbers]
        waiting, frozen_prefix = schedule.ever_frozen(model.layers), schedule.frozen_prefix
        sharing = schedule.local.kinds[program // len(schedule.columns)]
        together = sharing is Sharing.GRADIENTS
        task = self.replicas.task(self.task) if together else self.task

        def step(state: TrainState, images: Images, order: jax.Array, keys: Keys) -> tuple[TrainState, StepMetrics]:
            index = device_index(self.schedule, state.step) if len(columns) > 1 else 0
            inputs = over_seeds(partial(self.inputs, state.step, images), "vmap")(order, keys)
            places = own_places(schedule, state.step) if schedule.replicas > 1 else None
            branches = [over_seeds(self._backward(task, number, places), self.seeds_by) for number in numbers]
            if together:
                result = lax.switch(index, branches, state.params, state.stats, *inputs)
                result = self.replicas.average(task, columns[0], result, frozen_prefix=frozen_prefix, blocks=absent[0])
            else:
                result = self.replicas.own(branches[0], state, inputs)
            held = held_by(model, columns, state.params, index, frozen_prefix=frozen_prefix, absent=absent)
            moved = factors_of(model, factors, state.params, index, frozen=waiting)
            new, metrics = optimizer_step(self.task, state, result, held, moved)
            if sharing is Sharing.STATE:
                new, metrics = self.replicas.mean((new, metrics))
            if self.train.check == "finite":
                metrics = metrics._replace(not_finite=not_finite(result.gradient, new))
            return new, metrics

        return step

    def _backward(self, task: Task, number: int, places: jax.Array | None) -> Callable[..., Backward]:
        """Forward and backward pass under the column of that number; `places` where its replicas differ."""
        return partial(
            backward,
            task,
            self.schedule.columns[number],
            frozen_prefix=self.schedule.frozen_prefix,
            seen=self.schedule.column_seen[number],
            places=places,
            blocks=self.schedule.column_absent[number],
        )

    def chunk_function(self, program: int, steps: int) -> StepFunction:
        """`steps` steps as one function of the same arguments; its metrics are those of all of them."""
        step = self.step_function(program)

        def chunk(state: TrainState, images: Images, order: jax.Array, keys: Keys) -> tuple[TrainState, StepMetrics]:
            return lax.scan(lambda state, _: step(state, images, order, keys), state, length=steps)

        return chunk

    def inputs(
        self, step: jax.Array, images: Images, order: jax.Array, keys: Keys
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Batch, labels and key of a step of one seed, whose `order` and `keys` these are."""
        size = self.train.batch_size
        if self.streamed:
            return normalised(images.pixels, images), images.labels, jax.random.fold_in(keys.gradient, step)
        index = lax.dynamic_slice_in_dim(order, step % self.task.steps_per_epoch * size, size)
        if self.train.augment:
            x = augmented_batch(images, index, jax.random.fold_in(keys.augment, step))
        else:
            x = plain_batch(images, index)
        return x, images.labels[own_part(index)], jax.random.fold_in(keys.gradient, step)


def choose_mode(mode: str, columns: int) -> str:
    """`auto` is `switch` on a CPU, else `host`; a schedule of one column has nothing to switch between."""
    if mode == "auto":
        mode = "switch" if jax.default_backend() == "cpu" else "host"
    return mode if columns > 1 else "host"


def steps_a_call(step_seconds: float, steps_per_epoch: int, steps_left: int) -> int:
    """The largest power of two of steps that last at most LONGEST_CALL, fit into an epoch and are at most MOST_STEPS.

    1 where that is none, and where the rest of the run is short.
    """
    if step_seconds * steps_left < LEAST_LEFT:
        return 1
    most = min(MOST_STEPS, steps_per_epoch, int(LONGEST_CALL / step_seconds))
    return 1 << max(most.bit_length() - 1, 0)


def device_index(schedule: Schedule, step: jax.Array) -> jax.Array:
    """`schedule.index(step)`, computed inside a compiled program from the schedule's static table."""
    return jnp.asarray(schedule.index_table.table)[_entry(schedule, step)]


def own_places(schedule: Schedule, step: jax.Array) -> jax.Array:
    """Of `schedule.places(step)` those of the replica whose program this is: int32 `[layers]`."""
    number = jnp.asarray(schedule.index_table.of_places)[_entry(schedule, step)]
    return jnp.asarray(schedule.index_table.places)[number, :, own_number()].astype(jnp.int32)


def _entry(schedule: Schedule, step: jax.Array) -> jax.Array:
    starts, periods, offsets = (jnp.asarray(part) for part in schedule.index_table[:3])
    phase = jnp.searchsorted(starts, step, side="right") - 1
    return offsets[phase] + (step - starts[phase]) % periods[phase]
