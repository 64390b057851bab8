"""Accuracy and loss of a network on a whole split, with batch norm's running averages."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from approxtrain.training.batch import Images, plain_batch
from approxtrain.training.step import Task, TrainState

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

    def __call__(self, state: TrainState) -> Evaluation:
        starts = [jnp.int32(start) for start in range(0, self.size, BATCH)]
        if self._batch is None:
            batch = jax.jit(partial(_batch_sums, self.task))
            self._batch = batch.lower(state.params, state.stats, self.images, starts[0]).compile()
        sums = [self._batch(state.params, state.stats, self.images, start) for start in starts]
        loss, correct = (sum(float(part[i]) for part in sums) for i in (0, 1))
        return Evaluation(loss / self.size, correct / self.size)


def _batch_sums(task: Task, params, stats, images: Images, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    index = start + jnp.arange(BATCH)
    counts = index < images.labels.shape[0]
    index = jnp.minimum(index, images.labels.shape[0] - 1)
    logits = task.network(params, stats)(plain_batch(images, index))
    labels = images.labels[index]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(counts, loss, 0.0).sum(), (counts & (logits.argmax(-1) == labels)).sum()
