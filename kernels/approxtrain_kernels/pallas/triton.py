"""The one file that knows the backend: Pallas kernels compiled by Triton, or interpreted.

The parameters of the compiler are always given: without them, jax 0.10 sends a kernel to Mosaic GPU and jax 0.11 to
Triton, and only Triton has the two things that these kernels live on, argmax by reductions and loads by index arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

# jax 0.11 deprecates the backend whenever a kernel is lowered, which is no news to the one who calls us and nothing
# that he could change: a replacement is to be chosen here once Mosaic GPU can load by index arrays.
warnings.filterwarnings("ignore", message=r"(?i).*triton.*deprecat.*", category=DeprecationWarning)

dot = pltriton.dot
store = pltriton.store


def call(
    kernel: Callable[..., None],
    out_shape: Any,
    *,
    grid: Sequence[int],
    warps: int,
    stages: int,
    name: str,
    interpret: bool,
) -> Callable[..., Any]:
    """A function of arrays that runs `kernel(*inputs, *outputs)` on whole arrays, once for each point of `grid`.

    The first axis of the grid is the one that runs fastest. Interpreted, the programs run one after the other.
    """
    params: Any = None if interpret else pltriton.CompilerParams(num_warps=warps, num_stages=stages)

    def run(*arrays: jax.Array) -> Any:
        with jax.enable_x64(False):  # positions are 32 bits wide, and so is every number that is computed with them
            return pl.pallas_call(
                kernel,
                out_shape=out_shape,
                grid=tuple(grid),
                name=name,
                interpret=interpret,
                compiler_params=params,
            )(*arrays)

    return run


def load(ref: Any, mask: jax.Array) -> jax.Array:
    """What lies where `mask` says so, and 0 elsewhere, where nothing is read."""
    return pltriton.load(ref, mask=mask, other=0)
