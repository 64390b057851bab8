"""ReLU, max pooling and batch norm with gradients of our own: against loops and differences in float64, and Flax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from approxtrain.models.batch_norm import BatchNorm, channel_sum, normalise
from approxtrain.models.max_pool import max_pool
from approxtrain.models.relu import relu
from tests.sampling import latin

pytestmark = pytest.mark.both

EPSILON = 1e-5


def test_relu_keeps_nan_and_passes_no_gradient_at_zero():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.nan, jnp.inf, -jnp.inf])
    y, back = jax.vjp(relu, x)
    np.testing.assert_array_equal(y, [0, 0, 0, 3, np.nan, np.inf, 0])
    np.testing.assert_array_equal(back(jnp.full(7, 5.0))[0], [0, 0, 0, 5, 0, 5, 0])


def test_on_a_cpu_relu_of_a_sum_is_computed_once_for_all_its_readers():
    """The point of it: max(·, 0) is computed again inside of each fusion that reads it."""

    def readers(activation):
        def f(a, b):
            y = activation(a + b)
            return y @ y.T, jnp.transpose(y * 2)

        text = jax.jit(f).lower(jnp.ones((64, 64)), jnp.ones((64, 64))).compile().as_text()
        return text.count("= f32[64,64]{1,0} add(")

    assert readers(relu) == 1
    assert readers(lambda x: jnp.maximum(x, 0)) > 1, "XLA no longer does so: relu.py has become unnecessary"


def pooled_by_loops(x, window, stride):
    """y, and for each entry of it the position in x of the first largest."""
    n, height, width, channels = x.shape
    ho, wo = -(-height // stride), -(-width // stride)
    top, left = (max((out - 1) * stride + window - size, 0) // 2 for out, size in ((ho, height), (wo, width)))
    y, where = np.full((n, ho, wo, channels), -np.inf), np.zeros((n, ho, wo, channels, 2), int)
    for b, p, q, c in np.ndindex(y.shape):
        for i, j in np.ndindex(window, window):
            h, w = p * stride + i - top, q * stride + j - left
            if 0 <= h < height and 0 <= w < width and x[b, h, w, c] > y[b, p, q, c]:
                y[b, p, q, c], where[b, p, q, c] = x[b, h, w, c], (h, w)
    return y, where


@pytest.mark.parametrize(
    ("height", "width", "window", "stride"),
    [
        (9, 7, 3, 2),
        (7, 5, 2, 2),
        (2, 1, 3, 2),
        *(pytest.param(*case, marks=pytest.mark.long) for case in [(8, 8, 3, 2), (8, 8, 2, 2), (5, 6, 3, 1)]),
        *(pytest.param(*case, marks=pytest.mark.long) for case in [(7, 9, 2, 3), (4, 4, 4, 4)]),
    ],
)
def test_max_pooling_and_its_gradient_go_by_the_first_largest_entry(height, width, window, stride):
    rng = np.random.default_rng(height * width)
    x = rng.integers(-3, 4, (2, height, width, 3)).astype(np.float32)  # few values: many ties
    y, where = pooled_by_loops(x, window, stride)
    dy = rng.integers(-9, 9, y.shape).astype(np.float32)  # whole numbers: sums are exact
    dx = np.zeros(x.shape)
    for b, p, q, c in np.ndindex(y.shape):
        h, w = where[b, p, q, c]
        dx[b, h, w, c] += dy[b, p, q, c]
    found, back = jax.vjp(lambda x: max_pool(x, window, stride), jnp.asarray(x))
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(back(jnp.asarray(dy))[0], dx)


def test_max_pooling_keeps_nan():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    y, back = jax.vjp(lambda x: max_pool(x, 2, 2), x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[np.nan, 0], [0, 0]])
    assert np.isnan(back(y)[0]).any()


def test_max_pooling_scatters_nothing():
    text = jax.jit(jax.grad(lambda x: max_pool(x, 3, 2).sum())).lower(jnp.ones((2, 8, 8, 16))).compile().as_text()
    assert " scatter(" not in text
    assert " reduce-window(" not in text


def normalised(x, scale, bias):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return scale * (x - mean) / np.sqrt(variance + EPSILON) + bias


def difference(f, at, step=1e-6):
    """∂f/∂at by central differences, in float64."""
    gradient = np.zeros(at.shape)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (f(up) - f(down)) / (2 * step)
    return gradient


def test_batch_norm_and_its_gradient_are_their_definition():
    rng = np.random.default_rng(0)
    x, scale, bias = rng.normal(2, 3, (3, 4, 2, 5)), rng.normal(1, 0.3, 5), rng.normal(0, 1, 5)
    dy = rng.normal(0, 1, x.shape)
    arrays = [jnp.asarray(a, jnp.float32) for a in (x, scale, bias)]
    y, back, (mean, variance) = jax.vjp(
        lambda *a: (lambda y, *stats: (y, stats))(*normalise(*a, EPSILON)), *arrays, has_aux=True
    )
    np.testing.assert_allclose(y, normalised(x, scale, bias), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 1, 2)), rtol=1e-5)
    dx, dscale, dbias = back(jnp.asarray(dy, jnp.float32))
    for found, wanted in (
        (dx, difference(lambda x: (dy * normalised(x, scale, bias)).sum(), x)),
        (dscale, difference(lambda scale: (dy * normalised(x, scale, bias)).sum(), scale)),
        (dbias, difference(lambda bias: (dy * normalised(x, scale, bias)).sum(), bias)),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "dtype"), latin([(8, 6, 6, 16), (3, 5, 7, 1), (2, 2, 2, 1030), (7, 3)], [jnp.float32, jnp.bfloat16])
)
def test_batch_norm_is_flaxs(shape, dtype):
    x = jnp.asarray(np.random.default_rng(1).normal(0.5, 2, shape), dtype)
    ours = BatchNorm(shape[-1], momentum=0.9, dtype=dtype)
    flaxs = nnx.BatchNorm(shape[-1], momentum=0.9, dtype=dtype, rngs=nnx.Rngs(0))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == jnp.float32 else {"rtol": 2e-2, "atol": 4e-2}
    for running in (False, True):  # the averages that training left behind are what the second call uses
        y, wanted = (norm(x, use_running_average=running) for norm in (ours, flaxs))
        assert y.dtype == wanted.dtype == dtype
        np.testing.assert_allclose(y.astype(np.float32), wanted.astype(np.float32), **tolerance)
    for name in ("mean", "var"):
        np.testing.assert_allclose(getattr(ours, name)[...], getattr(flaxs, name)[...], rtol=1e-5, atol=1e-6)


def test_a_channel_sum_holds_the_digits_of_float32():
    x = np.random.default_rng(2).normal(100, 1, (16, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(channel_sum(jnp.asarray(x)), x.astype(np.float64).sum((0, 1, 2)), rtol=1e-6)
