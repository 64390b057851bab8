"""An optimiser by itself: the part of a training step that comes after the gradients, on a few arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from approxtrain.config import Config
from approxtrain.models import Model
from approxtrain.run import checkpoint
from approxtrain.training.moved import by_path
from approxtrain.training.optimizer import optimizer
from approxtrain.training.step import Backward, StepMetrics, Task, TrainState, optimizer_step

SGD = {"name": "sgd", "learning_rate": 0.05, "rate": "constant"}
TWO = Model("two", "", "tests.networks:TwoConvolutions", image_shape=(8, 8, 3))
SHAPES = {
    "logits": {"bias": (10,), "kernel": (64, 10)},
    "one": {"bias": (5,), "kernel": (3, 3, 3, 5)},
    "two": {"kernel": (3, 3, 5, 4)},
}
"""Of the parameters of `TWO`."""


def arrays(of: Callable[[tuple[int, ...]], Any], shapes: Any = SHAPES) -> Any:
    return jax.tree.map(of, shapes, is_leaf=lambda node: isinstance(node, tuple))


def normal(rng: np.random.Generator, *, seeds: tuple[int, ...] = (1,), shapes: Any = SHAPES) -> Any:
    """Random numbers, such as gradients, with an axis of seeds in front."""
    return arrays(lambda shape: jnp.asarray(rng.normal(size=(*seeds, *shape)), jnp.float32), shapes)


def task_of(table: dict[str, Any], model: Model = TWO) -> Task:
    """What there is of a task without a network: an optimiser, in a run of five epochs of two steps."""
    data, train = {"name": "shapes"}, {"epochs": 5}
    optimizer_ = {**SGD, **table}
    config = Config.model_validate({"model": {"name": "cnn5"}, "data": data, "train": train, "optimizer": optimizer_})
    rule = optimizer(config, optax.constant_schedule(config.optimizer.learning_rate), 2, model)
    return Task(None, None, None, rule, None, 2, config.train)  # type: ignore[arg-type]


def begin(task: Task, params: Any) -> TrainState:
    """Of one seed."""
    opt_state = jax.tree.map(lambda leaf: leaf[None] if leaf.ndim else leaf, task.optimizer.init(params))
    params = jax.tree.map(lambda leaf: leaf[None], params)
    return TrainState(jnp.int32(0), params, {}, opt_state, jnp.zeros(1), jnp.zeros(1), {})


def step(
    task: Task, state: TrainState, gradient: Any, held: Any = None, factors: Any = None, loss: Any = None
) -> TrainState:
    """`loss` of each seed, by default 1."""
    seeds = len(state.loss_sum)
    metrics = StepMetrics(jnp.ones(seeds) if loss is None else loss, jnp.ones(seeds))
    return optimizer_step(task, state, Backward(gradient, {}, metrics), held or {}, factors)[0]


def joined(trees: list[TrainState]) -> TrainState:
    """Of several seeds the state of all."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves) if leaves[0].ndim else leaves[0], *trees)


def differing(a: Any, b: Any) -> int:
    """How many entries of two trees differ."""
    counts = jax.tree.map(lambda x, y: (np.asarray(x) != np.asarray(y)).sum(), a, b)
    return int(sum(jax.tree.leaves(counts)))


def assert_it_goes_on_bit_for_bit(bench: Any, whole: Sequence[TrainState], folder: Path) -> None:
    """From a checkpoint after three of six steps; `whole` are the states before each of them and after the last."""
    checkpoint.save(folder, 3, whole[3], {})
    found = checkpoint.load_latest(folder, bench.state)
    assert found is not None
    state = found[0]
    for number in range(3, 6):
        state, _ = bench.dispatch(number, state, bench.images, bench.order)
    for name, leaf in by_path(state).items():
        assert np.asarray(leaf).tobytes() == by_path(whole[-1])[name].tobytes(), name
