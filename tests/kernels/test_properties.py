"""Random layers and values: what holds for every shape, stride, padding and plane, by every portable implementation.

The oracle is written from the equations in float64 and sees the same numbers. Where dO is not finite, an entry of dW
must not be finite if a pixel of the image was multiplied with it; whether a zero of the padding counts as one (0 · ∞
is NaN) is left to the library. A plane with a NaN has no largest entry: its channel of dW is not finite somewhere.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approxtrain_kernels import conv_shape, weight_gradient
from approxtrain_kernels.methods.approx import PORTABLE
from tests.kernels.oracles import block_means, keep_largest, wgrad

pytestmark = pytest.mark.gate

several = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
PLANES = ("random", "ties", "zeros", "opposite signs", "nan", "inf", "both infinities")


@st.composite
def layers(draw):
    """A convolution that fits, and what weight_gradient has to be told of it."""
    size = st.integers(1, 9)
    kernel, stride = draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 3))
    few = st.integers(0, kernel - 1)  # no window lies wholly in the padding
    padding = draw(st.sampled_from(["SAME", "VALID", "explicit"]))
    if padding == "explicit":
        padding = tuple((draw(few), draw(few)) for _ in range(2))
    height, width = draw(size), draw(size)
    if padding == "VALID":
        height, width = max(height, kernel), max(width, kernel)
    if not isinstance(padding, str):
        height, width = (max(n, kernel - sum(pad)) for n, pad in zip((height, width), padding, strict=True))
    n, ci, co = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    static = {"kernel_size": (kernel, kernel), "strides": (stride, stride), "padding": padding}
    return conv_shape((n, height, width, ci), co, (kernel, kernel), (stride, stride), padding), static


def values(shape, plane, seed):
    """x as a ReLU leaves it, and dO with one plane that has a catch."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal(shape.x_shape), 0).astype(np.float32)
    dy = rng.standard_normal(shape.y_shape).astype(np.float32)
    n, _, _, co = (rng.integers(size) for size in shape.y_shape)
    if plane in ("ties", "zeros"):
        dy[n, :, :, co] = 0.5 * (plane == "ties")
    first, second = (tuple(rng.integers(size) for size in shape.y_shape[1:3]) for _ in range(2))
    extremes = {"opposite signs": (3, -3), "nan": (np.nan, 1), "inf": (np.inf, 1), "both infinities": (np.inf, -np.inf)}
    if plane in extremes:
        dy[(n, *second, co)] = extremes[plane][1]
        dy[(n, *first, co)] = extremes[plane][0]
    return x, dy


def agree(found, x, thinned, shape, unordered=()):
    """`unordered`: channels whose planes have no largest entry."""
    found, thinned = np.array(found, np.float64), thinned.copy()
    for channel in unordered:
        assert not np.isfinite(found[..., channel]).all()
        found[..., channel] = thinned[..., channel] = 0
    must, may = (wgrad(x, thinned, shape, padding_counts=counts) for counts in (False, True))
    assert not np.isfinite(found[~np.isfinite(must)]).any()
    sure = np.isfinite(may)
    assert np.isfinite(found[sure]).all()
    if sure.any():
        assert np.abs(found[sure] - may[sure]).max() <= 1e-5 * max(np.abs(may[sure]).max(), 1e-30)


def computed(x, dy, static, **method):
    return jax.jit(partial(weight_gradient, **static, **method))(jnp.asarray(x), jnp.asarray(dy))


@several
@given(layers(), st.sampled_from(PLANES), st.integers(1, 90), st.integers(0, 10**6))
def test_approx_keeps_the_largest_entries_and_the_sum_of_every_plane(layer, plane, k, seed):
    shape, static = layer
    x, dy = values(shape, plane, seed)
    k = min(k, shape.y_shape[1] * shape.y_shape[2])
    with np.errstate(invalid="ignore"):
        thinned = dy if k == shape.y_shape[1] * shape.y_shape[2] else keep_largest(dy, k)
        unordered = np.flatnonzero(np.isnan(dy).any((0, 1, 2)))
        for implementation in PORTABLE:
            found = computed(x, dy, static, method="approx", k=k, implementation=implementation)
            agree(found, x, thinned, shape, unordered)


@several
@given(layers(), st.sampled_from(PLANES), st.sampled_from([1, 2, 3, 4, 7]), st.integers(0, 10**6))
def test_pooled_takes_block_means(layer, plane, r, seed):
    shape, static = layer
    x, dy = values(shape, plane, seed)
    with np.errstate(invalid="ignore"):
        agree(computed(x, dy, static, method="pooled", r=r), x, block_means(dy, r), shape)


@several
@given(layers(), st.sampled_from(PLANES), st.integers(0, 10**6))
def test_full_is_the_sum_over_all_images_and_outputs(layer, plane, seed):
    shape, static = layer
    x, dy = values(shape, plane, seed)
    with np.errstate(invalid="ignore"):
        agree(computed(x, dy, static), x, dy, shape)
