"""What jax has to be told of an operation of our own on several arrays, beside what it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive


def varying_alike(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays, each varying over the same axes of a `shard_map` as all of them together."""
    varying = [frozenset(jax.typeof(array).mat.varying) for array in arrays]
    every = frozenset().union(*varying)
    return [
        lax.pcast(array, tuple(sorted(every - its_own)), to="varying") if every - its_own else array
        for array, its_own in zip(arrays, varying, strict=True)
    ]


def one_by_one(function: Callable[..., jax.Array], dims: Sequence[int | None], *arrays: jax.Array) -> jax.Array:
    """`vmap` of a function, one call after the other. `dims`: which axis of each array is the batch, or None."""
    mapped = [jnp.moveaxis(array, dim, 0) for array, dim in zip(arrays, dims, strict=True) if dim is not None]

    def call(entries: Sequence[jax.Array]) -> jax.Array:
        left = iter(entries)
        chosen = [array if dim is None else next(left) for array, dim in zip(arrays, dims, strict=True)]
        return function(*varying_alike(*chosen))

    return lax.map(call, mapped)


def compute_by_a_program(primitive: Primitive) -> None:
    """Where nothing is being compiled, `primitive` is computed by a program of its own, which is kept."""

    @cache
    def program(**static: Any) -> Callable[..., jax.Array]:
        return jax.jit(partial(primitive.bind, **static))

    @primitive.def_impl
    def _(*arrays: jax.Array, **static: Any) -> jax.Array:
        with jax.disable_jit(False):
            return program(**static)(*arrays)
