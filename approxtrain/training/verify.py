"""Every n-th step computed twice from the same state, and the bits compared (`train.verify_every`).

A step is a pure function, and its program the same one, so two results that differ tell of a fault in memory or in
arithmetic, which no checksum of a file sees. (torchtitan repeats steps to the same end.)
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain.errors import VerificationError
from approxtrain.training.batch import Images
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.moved import by_path
from approxtrain.training.step import StepMetrics, TrainState

Outcome = tuple[TrainState, StepMetrics]


class Verification:
    """Asked before and after each call: `first`, the call itself, `compare`."""

    def __init__(self, dispatch: Dispatch, every: int | None) -> None:
        self._dispatch, self._every = dispatch, every

    def due(self, step: int, steps: int) -> bool:
        """Whether a step to be verified is among the `steps` from `step`. A call of several is verified as a whole."""
        return self._every is not None and (step + steps) // self._every > step // self._every

    def first(self, step: int, state: TrainState, images: Images, order: jax.Array) -> Outcome:
        """What the call at `step` comes to, once it has: of a copy of `state`, which the call consumes."""
        return jax.block_until_ready(self._dispatch(step, _copy(state), images, order))

    def compare(self, first: Outcome, second: Outcome, saved: Path) -> None:
        """VerificationError where the outcomes of a call differ in a bit; `saved` is the last checkpoint."""
        ours, theirs = ({**by_path(state), **by_path(metrics)} for state, metrics in (first, second))
        names = list(ours)
        flags = np.asarray(_differ([ours[name] for name in names], [theirs[name] for name in names]))
        if not flags.any():
            return
        which, more = names[int(flags.argmax())], int(flags.sum()) - 1
        raise VerificationError(
            f"Step {int(second[0].step)} was computed twice from the same state, and `{which}`"
            f"{f' and {more} more arrays' if more else ''} came out with other bits: memory or processor of this "
            f"machine makes mistakes. The last checkpoint is {saved}. Go on from it on another machine: "
            f"approxtrain train --resume {quote(str(saved.parents[1]))}"
        )


@jax.jit
def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


@jax.jit
def _differ(ours: list[jax.Array], theirs: list[jax.Array]) -> jax.Array:
    return jnp.stack([(_bits(a) != _bits(b)).any() for a, b in zip(ours, theirs, strict=True)])


def _bits(array: jax.Array) -> jax.Array:
    """As whole numbers: as floats, a NaN is unequal to itself, and zeros of both signs are equal."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return lax.bitcast_convert_type(array, jnp.dtype(f"uint{8 * array.dtype.itemsize}"))
