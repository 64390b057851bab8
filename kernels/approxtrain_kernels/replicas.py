"""One batch over several devices: what the program of one of them has to know of the whole.

Each replica computes with its own part of the images, and the weight gradients are averaged over the replicas. Most
methods look at each image by itself, so that the average over the parts is what the whole batch gives. Those that ask
how many images there are, draw numbers for each of them, or compare sums over all of them, find the answers here.

Outside of `replicated` there is one replica, which has all images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import jax

    from approxtrain_kernels.geometry import ConvShape


class _Replicas(NamedTuple):
    axis: str
    number: int
    together: bool = True
    """Whether all of them run what is traced, so that they can send each other something."""


_REPLICAS: ContextVar[_Replicas | None] = ContextVar("the replicas that a batch is spread over", default=None)


@contextmanager
def replicated(axis: str, count: int) -> Iterator[None]:
    """What is traced inside is the program of one of `count` replicas, along this axis of a `shard_map`."""
    token = _REPLICAS.set(_Replicas(axis, count))
    try:
        yield
    finally:
        _REPLICAS.reset(token)


@contextmanager
def alone() -> Iterator[None]:
    """What is traced inside looks at one replica by itself, as if its images were all that there are."""
    token = _REPLICAS.set(None)
    try:
        yield
    finally:
        _REPLICAS.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """What is traced inside is run by some of the replicas only, and must not send anything."""
    replicas = _REPLICAS.get()
    token = _REPLICAS.set(replicas and replicas._replace(together=False))
    try:
        yield
    finally:
        _REPLICAS.reset(token)


def own_number() -> jax.Array | int:
    """Which of the replicas this is, from 0."""
    from jax import lax

    replicas = _REPLICAS.get()
    return 0 if replicas is None else lax.axis_index(replicas.axis)


def whole_batch(shape: ConvShape) -> int:
    """The images of all replicas, where `shape` has those of one."""
    replicas = _REPLICAS.get()
    return shape.batch * (replicas.number if replicas else 1)


def first_image(shape: ConvShape) -> jax.Array | int:
    """The number that one's own first image has in the whole batch."""
    return own_number() * shape.batch


def own_part(array: jax.Array, axis: int = 0) -> jax.Array:
    """Of an array over the images of all replicas, which lie along `axis`, what is of one's own images.

    ValueError where the replicas cannot have parts of one size.
    """
    from jax import lax

    if (replicas := _REPLICAS.get()) is None:
        return array
    size, rest = divmod(array.shape[axis], replicas.number)
    if rest:
        raise ValueError(f"{array.shape[axis]} images cannot be shared equally by {replicas.number} replicas.")
    return lax.dynamic_slice_in_dim(array, lax.axis_index(replicas.axis) * size, size, axis)


def own_key(key: jax.Array) -> jax.Array:
    """A key of one's own, for numbers that are drawn for one's own images."""
    import jax

    replicas = _REPLICAS.get()
    return key if replicas is None else jax.random.fold_in(key, jax.lax.axis_index(replicas.axis))


def total(array: jax.Array) -> jax.Array:
    """The sum of what the replicas have; what one has itself, where others run another method."""
    from jax import lax

    replicas = _REPLICAS.get()
    return array if replicas is None or not replicas.together else lax.psum(array, replicas.axis)
