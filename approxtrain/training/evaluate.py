"""Accuracy and loss of a network on a whole split, with batch norm's running averages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from approxtrain.errors import DataError
from approxtrain.models.forward import forward
from approxtrain.training.batch import Images, plain_batch
from approxtrain.training.parallel import on_first
from approxtrain.training.seeds import over_seeds
from approxtrain.training.step import Task, TrainState, Tree

BATCH = 500
"""Images of 32×32 in a batch. Of larger ones fewer, and at least LEAST, so that the memory is about the same."""
LEAST = 32


class Evaluation(NamedTuple):
    loss: float
    accuracy: float


class Evaluator:
    """Compiled once; the last batch is filled up with what does not count.

    `images` are the whole split, or a function that goes through it in batches of one size, in which the label −1 marks
    what does not count.
    """

    def __init__(self, task: Task, images: Images | Callable[[], Iterable[Images]]) -> None:
        self.images = images
        self.task, self._batch = task, None

    @staticmethod
    def batch_size(images: Images) -> int:
        """How many of these images, which are a whole split, are taken at a time."""
        _, height, width, _ = images.pixels.shape
        return min(BATCH, max(LEAST, BATCH * 32 * 32 // (height * width)))

    def __call__(self, state: TrainState) -> list[Evaluation]:
        """What each seed comes to."""
        sums, size = [], 0
        params, stats = on_first((state.validated, state.stats))
        for images, start, counted in self._batches():
            if self._batch is None:
                taken = self.batch_size(images) if images is self.images else len(images.labels)
                batch = jax.jit(partial(_batch_sums, self.task, taken))
                self._batch = batch.lower(params, stats, images, start).compile()
            sums.append(self._batch(params, stats, images, start))
            size += counted
        if not size:
            raise DataError("None of the images to validate on can be read.")
        losses, correct = np.sum([np.asarray(part, np.float64) for part in sums], axis=0) / size
        return [Evaluation(*figures) for figures in zip(losses.tolist(), correct.tolist(), strict=True)]

    def _batches(self) -> Iterator[tuple[Images, jax.Array, int]]:
        """Images, where in them a batch starts, and how many of it count."""
        if isinstance(self.images, Images):
            size, taken = len(self.images.labels), self.batch_size(self.images)
            for start in range(0, size, taken):
                yield self.images, jnp.int32(start), min(taken, size - start)
        else:
            for images in self.images():
                yield images, jnp.int32(0), int((np.asarray(images.labels) >= 0).sum())


def _batch_sums(
    task: Task, size: int, params: Tree, stats: Tree, images: Images, start: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of each seed the sum of its losses, and how many images it has right, of the `size` images from `start`."""
    index = start + jnp.arange(size)
    counts = index < images.labels.shape[0]
    index = jnp.minimum(index, images.labels.shape[0] - 1)
    labels = images.labels[index]
    counts &= labels >= 0

    def of_one_seed(params: Tree, stats: Tree) -> tuple[jax.Array, jax.Array]:
        logits = forward(task.network(params, stats), plain_batch(images, index), training=False).astype(jnp.float32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.where(counts, loss, 0.0).sum(), (counts & (logits.argmax(-1) == labels)).sum()

    return over_seeds(of_one_seed, "map")(params, stats)
