"""One training step: forward and backward pass of one seed by one column of a schedule, then the optimiser for all.

A column is static. Its step contains the estimators of its cells and nothing of those that it does not use; the choice
between columns is `dispatch.py`'s. The optimiser's part is the same for all of them, so it stands outside of that
choice: there it writes over the state in place, where a branch would have to be given a copy. It works by element, so
an axis of seeds is nothing special to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from approxtrain.config import Config
from approxtrain.models import Model
from approxtrain.models.network import Network
from approxtrain.schedule.frozen_prefix import frozen_parts
from approxtrain_kernels import Method

Tree = Any


class TrainState(NamedTuple):
    """All that a run needs to go on. The sums restart with each epoch: its mean loss survives a resume bit for bit.

    Everything but `step` and the optimiser's counts, which are one for all, has a leading axis of seeds.
    """

    step: jax.Array  # int32, steps finished
    params: Tree
    stats: Tree  # batch norm's running averages
    opt_state: Tree
    loss_sum: jax.Array
    correct_sum: jax.Array


class StepMetrics(NamedTuple):
    loss: jax.Array
    correct: jax.Array


class Backward(NamedTuple):
    """The result of forward and backward pass of one batch."""

    gradient: Tree
    stats: Tree
    metrics: StepMetrics


Held = Mapping[tuple[str, ...], bool | jax.Array]
"""Path and name of parameters → whether they and their moments stay as they are."""


class Task(NamedTuple):
    """What is static in a run: the network's structure and the optimiser."""

    model: Model
    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    steps_per_epoch: int

    def network(self, params: Tree, stats: Tree) -> Network:
        return nnx.merge(self.graph, params, stats)


def set_up(
    model: Model, config: Config, steps_per_epoch: int, keys: jax.Array, kind: type[Network] = Network
) -> tuple[Task, TrainState]:
    """The task, and the state before the first step: a pure function of `keys`, one for each seed."""
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.train.precision]
    learning_rate = optax.exponential_decay(
        config.optimizer.learning_rate, transition_steps=steps_per_epoch, decay_rate=config.optimizer.decay
    )
    optimizer = optax.adam(learning_rate)

    # Programs that run once: on a CPU, optimising the one that draws the weights took seconds and saved milliseconds.
    once = partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    )

    @once
    def draw(key: jax.Array) -> tuple[Tree, Tree]:
        network = kind(model, rngs=nnx.Rngs(key), dtype=dtype)
        params, stats = nnx.state(network, nnx.Param), nnx.state(network, nnx.BatchStat)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    shell = nnx.eval_shape(lambda: kind(model, rngs=nnx.Rngs(0), dtype=dtype))
    graph, _, _ = nnx.split(shell, nnx.Param, nnx.BatchStat)
    # stacked by NumPy, which has nothing to compile for each shape
    params, stats = jax.tree.map(lambda *leaves: jnp.array(np.stack(leaves)), *map(draw, keys))
    nothing = jnp.zeros(len(keys), jnp.float32)
    initial = TrainState(jnp.int32(0), params, stats, once(optimizer.init)(params), nothing, jnp.copy(nothing))
    return Task(model, graph, optimizer, learning_rate, steps_per_epoch), initial


def backward(
    task: Task,
    column: Sequence[Method],
    params: Tree,
    stats: Tree,
    x: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    *,
    frozen_prefix: bool = False,
) -> Backward:
    """Mean cross-entropy of a batch x `[B, H, W, C]`, and its gradient with the column's weight gradients.

    `frozen_prefix`: norms and biases of the frozen prefix (`schedule/frozen_prefix.py`) go the way of its weights.
    """
    frozen = frozen_parts(task.model, column) if frozen_prefix else {}
    # Differentiated by the other parameters alone, the step has no dgrad that only the frozen ones would read.
    free, still = _split(params, frozen)

    def loss_of(free: Tree) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
        network = task.network(_join(free, still), stats)
        logits = network(x, column=column, key=key, train=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        correct = (logits.argmax(-1) == labels).sum().astype(jnp.float32)
        return loss, (nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)), correct)

    (loss, (stats, correct)), gradient = jax.value_and_grad(loss_of, has_aux=True)(free)
    gradient = _join(gradient, jax.tree.map(jnp.zeros_like, still))
    return Backward(gradient, stats, StepMetrics(loss, correct))


def optimizer_step(task: Task, state: TrainState, result: Backward, held: Held) -> tuple[TrainState, StepMetrics]:
    """The state after Adam's step along the gradients of `result`, of all seeds at once; parameters `held` stay."""
    updates, opt_state = task.optimizer.update(result.gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params, opt_state = _hold(held, (params, opt_state), (state.params, state.opt_state))
    starts_epoch, metrics = state.step % task.steps_per_epoch == 0, result.metrics
    new = TrainState(
        step=state.step + 1,
        params=params,
        stats=result.stats,
        opt_state=opt_state,
        loss_sum=jnp.where(starts_epoch, 0.0, state.loss_sum) + metrics.loss,
        correct_sum=jnp.where(starts_epoch, 0.0, state.correct_sum) + metrics.correct,
    )
    return new, metrics


def held_by(
    model: Model,
    columns: Sequence[Sequence[Method]],
    params: Tree,
    index: jax.Array | int = 0,
    *,
    frozen_prefix: bool = False,
) -> Held:
    """What is not updated: the weights under `skip`; in a frozen prefix their layers' biases and norms as well.

    Of several columns, that of the one at `index`; what all of them agree on is known when the step is compiled.
    """
    of_column = [_held_by_one(model, column, params, frozen_prefix) for column in columns]
    # Sorted, so that the program is the same in every process: it is kept on disk by its text.
    flags = {name: [name in names for names in of_column] for name in sorted(set().union(*of_column))}
    return {name: all(flag) or jnp.asarray(flag)[index] for name, flag in flags.items()}


def _held_by_one(model: Model, column: Sequence[Method], params: Tree, frozen_prefix: bool) -> set[tuple[str, ...]]:
    layers = zip(model.layers, column, strict=True)
    weights = {(layer.path, "kernel") for layer, method in layers if not method.updates_weight}
    frozen = frozen_parts(model, column) if frozen_prefix else {}
    parts = [path for path, method in frozen.items() if not method.updates_weight]
    return weights | {(path, name) for path in parts for name in params["parts"][path]}


def _split(params: Tree, paths: Iterable[str]) -> tuple[Tree, Tree]:
    """The parameters without the parts at `paths`; and these parts."""
    still = {path: params["parts"][path] for path in paths}
    free = {path: part for path, part in params["parts"].items() if path not in still}
    return {**params, "parts": free}, still


def _join(free: Tree, still: Tree) -> Tree:
    return {**free, "parts": {**free["parts"], **still}}


def _hold(held: Held, new: Tree, old: Tree) -> Tree:
    """`new` with the leaves of the held parameters, and of their moments, as they were in `old`."""

    def choose(path: tuple, new_leaf: jax.Array, old_leaf: jax.Array) -> jax.Array:
        flag = held.get(tuple(str(getattr(entry, "key", "")) for entry in path[-2:]), False)
        if isinstance(flag, bool):
            return old_leaf if flag else new_leaf
        return jnp.where(flag, old_leaf, new_leaf)

    return jax.tree_util.tree_map_with_path(choose, new, old)
