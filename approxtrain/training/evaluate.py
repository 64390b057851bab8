"""Accuracy and loss of a network on a whole split, with batch norm's running averages."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from approxtrain.models.forward import forward
from approxtrain.training.batch import Images, plain_batch
from approxtrain.training.seeds import over_seeds
from approxtrain.training.step import Task, TrainState, Tree

BATCH = 500


class Evaluation(NamedTuple):
    loss: float
    accuracy: float


class Evaluator:
    """Compiled once; the last batch is filled up with repeats that do not count."""

    def __init__(self, task: Task, images: Images) -> None:
        self.images = images
        self.size = images.labels.shape[0]
        self.task, self._batch = task, None

    def __call__(self, state: TrainState) -> list[Evaluation]:
        """What each seed comes to."""
        starts = [jnp.int32(start) for start in range(0, self.size, BATCH)]
        if self._batch is None:
            batch = jax.jit(partial(_batch_sums, self.task))
            self._batch = batch.lower(state.validated, state.stats, self.images, starts[0]).compile()
        sums = [self._batch(state.validated, state.stats, self.images, start) for start in starts]
        losses, correct = np.sum([np.asarray(part, np.float64) for part in sums], axis=0) / self.size
        return [Evaluation(*figures) for figures in zip(losses.tolist(), correct.tolist(), strict=True)]


def _batch_sums(task: Task, params: Tree, stats: Tree, images: Images, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each seed the sum of its losses, and how many images it has right, of the BATCH images from `start`."""
    index = start + jnp.arange(BATCH)
    counts = index < images.labels.shape[0]
    index = jnp.minimum(index, images.labels.shape[0] - 1)
    labels = images.labels[index]

    def of_one_seed(params: Tree, stats: Tree) -> tuple[jax.Array, jax.Array]:
        logits = forward(task.network(params, stats), plain_batch(images, index), training=False).astype(jnp.float32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.where(counts, loss, 0.0).sum(), (counts & (logits.argmax(-1) == labels)).sum()

    return over_seeds(of_one_seed, "map")(params, stats)
