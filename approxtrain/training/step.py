"""One training step: forward and backward pass of one seed by one column of a schedule, then the optimiser for all.

A column is static. Its step contains the estimators of its cells and nothing of those that it does not use; the choice
between columns is `dispatch.py`'s. The optimiser's part is the same for all of them, so it stands outside of that
choice: there it writes over the state in place, where a branch would have to be given a copy.

The network is any NNX module: its parameters are its `nnx.Param`s, and what else it holds, such as batch norm's
averages, are its statistics; dropout's streams of random numbers begin anew in each step. Trees are nested dicts by the
names in the module, and a parameter is named by its path: "stage1/0/conv2/kernel".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from approxtrain.config import Config, TrainConfig
from approxtrain.models import ConvLayer, Model
from approxtrain.models.approximate import approximate, drawing
from approxtrain.models.bypass import leave_out
from approxtrain.models.forward import forward
from approxtrain.schedule.frozen_prefix import frozen_parts
from approxtrain.schedule.seen import ALL, Seen
from approxtrain.training import optimizer as optimizers
from approxtrain.training.batch import resized
from approxtrain.training.dropback import settled
from approxtrain.training.moved import Factors, Held, by_path, hold, like
from approxtrain_kernels import Method
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.replicas import own_key

Tree = Any


class TrainState(NamedTuple):
    """All that a run needs to go on. The sums restart with each epoch: its mean loss survives a resume bit for bit.

    Everything but `step` and the optimiser's counts, which are one for all, has a leading axis of seeds.
    """

    step: jax.Array  # int32, steps finished
    params: Tree
    stats: Tree  # what the network holds besides, such as batch norm's running averages
    opt_state: Tree
    loss_sum: jax.Array
    correct_sum: jax.Array
    average: Tree  # moving averages of the parameters; empty where none are asked for

    @property
    def validated(self) -> Tree:
        """The parameters that are validated and exported."""
        return self.average or self.params


class StepMetrics(NamedTuple):
    loss: jax.Array
    correct: jax.Array
    not_finite: jax.Array | None = None  # by `finite.places`, where that is looked at


class Backward(NamedTuple):
    """The result of forward and backward pass of one batch."""

    gradient: Tree
    stats: Tree
    metrics: StepMetrics


class Task(NamedTuple):
    """What is static in a run: the network's structure and the optimiser."""

    model: Model
    graph: nnx.GraphDef
    streams: Tree
    """The shapes of the network's streams of random numbers."""
    optimizer: optax.GradientTransformationExtraArgs
    learning_rate: optax.Schedule
    steps_per_epoch: int
    train: TrainConfig
    follow: Callable[[nnx.Module, Sequence[ConvLayer], Sequence[Method]], nnx.Module] = approximate

    def network(
        self, params: Tree, stats: Tree, column: Sequence[Method] | None = None, blocks: Collection[str] = ()
    ) -> nnx.Module:
        """The network with these arrays, its layers under the methods of a column, by default all exact; without
        `blocks`."""
        layers, streams = self.model.layers, jax.tree.map(_any_stream, self.streams)
        network = nnx.merge(self.graph, params, streams, stats)
        network = self.follow(network, layers, [Full()] * len(layers) if column is None else column)
        return leave_out(network, blocks)


def set_up(model: Model, config: Config, steps_per_epoch: int, keys: jax.Array) -> tuple[Task, TrainState]:
    """The task, and the state before the first step: a pure function of `keys`, one for each seed."""
    rate = optimizers.learning_rate(config.optimizer, steps_per_epoch, steps_per_epoch * config.train.epochs)
    optimizer = optimizers.optimizer(config, rate, steps_per_epoch, model)
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.train.precision]

    # Programs that run once: on a CPU, optimising the one that draws the weights took seconds and saved milliseconds.
    once = partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    )

    @once
    def draw(key: jax.Array) -> tuple[Tree, Tree]:
        _, params, _, stats = _split_network(model.build(rngs=nnx.Rngs(key), dtype=dtype))
        return params, stats

    graph, _, streams, _ = _split_network(nnx.eval_shape(lambda: model.build(rngs=nnx.Rngs(0), dtype=dtype)))
    # stacked by NumPy, which has nothing to compile for each shape
    params, stats = jax.tree.map(lambda *leaves: jnp.array(np.stack(leaves)), *map(draw, keys))
    nothing = jnp.zeros(len(keys), jnp.float32)
    average = jax.tree.map(jnp.copy, params) if config.train.average else {}
    of_one = jax.eval_shape(optimizer.init, jax.tree.map(lambda leaf: leaf[0], params))
    opt_state = once(jax.vmap(optimizer.init, out_axes=_seed_axes(of_one)))(params)
    initial = TrainState(jnp.int32(0), params, stats, opt_state, nothing, jnp.copy(nothing), average)
    return Task(model, graph, streams, optimizer, rate, steps_per_epoch, config.train), initial


def _split_network(network: nnx.Module) -> tuple[nnx.GraphDef, Tree, Tree, Tree]:
    """Structure, parameters, streams of random numbers, statistics."""
    graph, *states = nnx.split(network, nnx.Param, nnx.RngState, ...)
    params, streams, stats = map(nnx.to_pure_dict, states)
    return graph, params, streams, stats


def _any_stream(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """A stream's key or count: `forward` begins it anew."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.split(jax.random.key(0), leaf.shape) if is_key else jnp.zeros(leaf.shape, leaf.dtype)


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
    seen: Seen = ALL,
    places: jax.Array | None = None,
    blocks: Collection[str] = (),
) -> Backward:
    """Mean cross-entropy of a batch x `[B, H, W, C]`, and its gradient with the column's weight gradients.

    `frozen_prefix`: norms and biases of the frozen prefix (`schedule/frozen_prefix.py`) go the way of its weights.
    `seen`: which of the images, and how large (`schedule/seen.py`). `places`: one's own, where replicas differ.
    `blocks`: what is left out of the network (`schedule/bypass.py`).
    """
    batch, count = len(x), seen.count(len(x))
    if count < batch:
        taken = jnp.array(seen.places(batch))
        x, labels = x[taken], labels[taken]
    x = x if seen.size is None else resized(x, seen.size)
    frozen = frozen_parts(task.model.layers, column) if frozen_prefix else {}
    parts = tuple(f"{path}/" for path in (*frozen, *blocks))
    # Differentiated by the other parameters alone, the step has no dgrad that only the frozen ones would read.
    named = by_path(params)
    still = {name: leaf for name, leaf in named.items() if name.startswith(parts)} if parts else {}
    free = {name: leaf for name, leaf in named.items() if name not in still}

    def loss_of(free: dict[str, jax.Array]) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
        network = task.network(like(params, free | still), stats, column, blocks)
        with drawing(key, places):
            logits = forward(network, x, training=True, key=own_key(key)).astype(jnp.float32)
        loss = losses(task.train, logits, labels).mean()
        correct = (logits.argmax(-1) == labels).sum().astype(jnp.float32) * (batch / count)  # as of a whole batch
        return loss, (_split_network(network)[3], correct)

    (loss, (stats, correct)), gradient = jax.value_and_grad(loss_of, has_aux=True)(free)
    gradient = like(params, gradient | {name: jnp.zeros_like(leaf) for name, leaf in still.items()})
    return Backward(gradient, stats, StepMetrics(loss, correct))


def losses(train: TrainConfig, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of each image: logits `[B, classes]`, labels `[B]` → `[B]`, as training counts it."""
    if not train.label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), train.label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def optimizer_step(
    task: Task, state: TrainState, result: Backward, held: Held, factors: Factors | None = None
) -> tuple[TrainState, StepMetrics]:
    """The state after the optimiser's step along the gradients of `result`, of all seeds.

    Parameters that are `held` stay; others are moved by their factor times what the optimiser says, by default once.
    """
    axes = _seed_axes(state.opt_state)

    def of_one_seed(gradient: Tree, opt_state: Tree, params: Tree, loss: jax.Array) -> tuple[Tree, Tree]:
        told = {"value": loss, "held": held, "factors": factors or {}}
        updates, opt_state = task.optimizer.update(gradient, opt_state, params, **told)
        return settled(optax.apply_updates(params, updates), opt_state), opt_state

    arguments = (result.gradient, state.opt_state, state.params, result.metrics.loss)
    params, opt_state = jax.vmap(of_one_seed, (0, axes, 0, 0), (0, axes))(*arguments)
    params, opt_state = hold(held, (params, opt_state), (state.params, state.opt_state))
    starts_epoch, metrics = state.step % task.steps_per_epoch == 0, result.metrics
    new = TrainState(
        step=state.step + 1,
        params=params,
        stats=result.stats,
        opt_state=opt_state,
        loss_sum=jnp.where(starts_epoch, 0.0, state.loss_sum) + metrics.loss,
        correct_sum=jnp.where(starts_epoch, 0.0, state.correct_sum) + metrics.correct,
        average=_averaged(task.train.average, state, params),
    )
    return new, metrics


def _seed_axes(opt_state: Tree) -> Tree:
    """Where the axis of seeds is in an optimiser's state: counts are one for all seeds, other arrays have it first."""
    return jax.tree.map(lambda leaf: 0 if leaf.ndim else None, opt_state)


def _averaged(kept: float | None, state: TrainState, params: Tree) -> Tree:
    """The moving average after a step that gave `params`; in the first steps less is kept of what was before."""
    if kept is None:
        return state.average
    share = jnp.minimum(kept, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda old, new: share * old + (1 - share) * new, state.average, params)
