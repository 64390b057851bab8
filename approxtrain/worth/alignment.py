"""How well a layer's approximated gradient points where the gradient over all images points.

With Ḡ the mean of a layer's exact weight gradients over many batches, g the exact gradient of a batch that is none of
them and g' what a method makes of that batch, each cosine a mean over several such batches,

    A = cos(g', Ḡ) / cos(g, Ḡ)

is 1 where a step by the method goes as far along Ḡ as an exact one of equal length, and more where averaging takes away
noise. It is cheap and told for each layer, and it looks at one step: what a small bias does to a network in thousands
of them is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain.training.batch import Images, Keys
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.probe import Cells, Observed, observe
from approxtrain.training.probe import alignment as cosine_and_ratio
from approxtrain.training.step import TrainState, Tree
from approxtrain_kernels import Method
from approxtrain_kernels.methods.full import Full

MEAN, SINGLE = 64, 16
"""Batches for the mean, and others that are held against it; of a short epoch four fifths and one fifth."""


@dataclass(frozen=True)
class Alignment:
    """Of one layer under one method, after an epoch."""

    epoch: int
    layer: int
    method: str
    alignment: float
    exact_cosine: float
    """cos(g, Ḡ), the mean over single batches."""


class Aligner:
    """Measures the same cells after several epochs, by one program, on the images of one seed."""

    def __init__(self, dispatch: Dispatch, cells: Cells) -> None:
        steps = dispatch.task.steps_per_epoch
        self.dispatch, self.cells = dispatch, cells
        self.single = min(SINGLE, max(steps // 5, 1))
        self.mean = min(MEAN, steps - self.single)
        self._program = jax.jit(self._cosines)

    def __call__(self, epoch: int, state: TrainState, images: Images, order: jax.Array) -> list[Alignment]:
        """Of each cell, for the first seed of a `state` that an epoch begins with, on batches of this `order`."""
        of_one = (state.params, state.stats, order, self.dispatch.keys)
        params, stats, order, keys = jax.tree.map(lambda leaf: leaf[0], of_one)
        cosines = np.asarray(self._program(params, stats, state.step, images, order, keys)).mean(0).tolist()
        return [
            Alignment(epoch, number, method.label, by_method / by_exact, by_exact)
            for (number, method), (by_method, by_exact) in zip(self.cells, cosines, strict=True)
        ]

    def _cosines(
        self, params: Tree, stats: Tree, step: jax.Array, images: Images, order: jax.Array, keys: Keys
    ) -> jax.Array:
        """(cos(g', Ḡ), cos(g, Ḡ)) of each single batch and cell: `[batches, cells, 2]`."""
        task, numbers = self.dispatch.task, sorted({number for number, _ in self.cells})

        def seen(batch: jax.Array) -> dict[int, Observed]:
            return observe(task, numbers, params, stats, *self.dispatch.inputs(step + batch, images, order, keys))

        def add(total: list[jax.Array], batch: jax.Array) -> tuple[list[jax.Array], None]:
            layers = seen(batch)
            return [of + layers[number].gradients(Full())[1] for of, number in zip(total, numbers, strict=True)], None

        zeros = [jnp.zeros(task.model.layers[number - 1].shape.w_shape) for number in numbers]
        total = dict(zip(numbers, lax.scan(add, zeros, jnp.arange(self.mean))[0], strict=True))

        def against_mean(batch: jax.Array) -> jax.Array:
            layers = seen(batch)

            def cosine(number: int, method: Method) -> jax.Array:
                return cosine_and_ratio(layers[number].gradients(method)[1], total[number])[0]

            exact = {number: cosine(number, Full()) for number in numbers}
            return jnp.array([[cosine(number, method), exact[number]] for number, method in self.cells])

        return lax.map(against_mean, self.mean + jnp.arange(self.single))


def cells_of(dispatches: Sequence[Dispatch], first: int, steps: int) -> Cells:
    """Every approximated layer, with each of its methods, in steps `first` to `first + steps` of several schedules."""
    found = {
        (number, method)
        for dispatch in dispatches
        for step in range(first, first + steps)
        for number, method in enumerate(dispatch.schedule.column(step), start=1)
        if method != Full()
    }
    return tuple(sorted(found, key=lambda cell: (cell[0], cell[1].label)))
