"""What a convolution keeps from its forward pass for the backward one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from approxtrain_kernels import conv
from approxtrain_kernels.methods import all_methods, make

pytestmark = pytest.mark.both

X, W = jnp.ones((2, 9, 9, 3)), jnp.ones((3, 3, 3, 5))


def kept(method: str) -> set[tuple[int, ...]]:
    """The shapes of what the backward pass is given."""
    key = jax.random.key(0)
    _, back = jax.vjp(lambda x, w: conv(x, w, method=method, key=key), X, W)
    return {leaf.shape for leaf in jax.tree.leaves(back) if jnp.issubdtype(leaf.dtype, jnp.floating)}


@pytest.mark.parametrize("name", all_methods())
def test_the_input_is_kept_by_those_methods_that_read_it_and_by_no_other(name):
    of_x = {"coarse": {(2, 5, 5, 3)}}.get(name, {X.shape})  # block means are enough for that one
    assert kept(name) == (of_x | {W.shape} if "x" in make(name).needs else {W.shape})
