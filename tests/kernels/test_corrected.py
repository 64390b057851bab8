"""`corrected`: for each draw the sum that its equation says, over all draws the exact gradient, and its variance."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv_shape, weight_gradient
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.corrected import Corrected
from tests.kernels.oracles import CASES, block_means, close, wgrad
from tests.sampling import latin

METHODS = [make("corrected"), make("corrected", r=3, q=2), make("corrected", q=7)]


def arrays(case, batch):
    _, h, w, ci, co, k, stride, padding = case
    shape = conv_shape((batch, h, w, ci), co, (k, k), (stride, stride), padding)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(size).astype(np.float32) for size in (shape.x_shape, shape.y_shape))
    return shape, np.maximum(x, 0), dy, {"kernel_size": (k, k), "strides": (stride, stride), "padding": padding}


def missed(x, dy, shape, r):
    """Σ x ∗ (dO − A dO)."""
    return wgrad(x, dy - block_means(dy, r), shape)


@pytest.mark.parametrize(("name", "method"), latin(list(CASES), METHODS))
def test_each_draw_is_the_pooled_gradient_and_so_many_times_what_some_images_miss(name, method, monkeypatch):
    """Over all draws the mean is the exact gradient, and the square of the error that of the formula."""
    shape, x, dy, static = arrays(CASES[name], batch=6)
    exact, gradients, parts = wgrad(x, dy, shape), [], []
    for b in range(method.q):
        monkeypatch.setattr(Corrected, "draw", lambda self, key, b=b: jnp.int32(b))
        estimate = jax.jit(partial(weight_gradient, method=method, **static))
        found = np.asarray(estimate(jnp.asarray(x), jnp.asarray(dy), key=jax.random.key(0)), np.float64)
        parts.append(missed(x[b :: method.q], dy[b :: method.q], shape, method.r))
        expected = wgrad(x, block_means(dy, method.r), shape) + method.q * parts[-1]
        close(found, expected)
        close(method.oracle(x, dy, shape), expected)
        gradients.append(found)
    close(np.mean(gradients, axis=0), exact)
    error = np.mean([((each - exact) ** 2).sum() for each in gradients])
    formula = method.q * sum((part**2).sum() for part in parts) - (sum(parts) ** 2).sum()
    assert error == pytest.approx(formula, rel=1e-3, abs=1e-6 * (exact**2).sum())


def test_draws_are_of_all_parts_alike_and_anew_for_each_key():
    method = make("corrected", q=3)
    drawn = [int(method.draw(jax.random.key(seed))) for seed in range(300)]
    assert set(drawn) == {0, 1, 2}
    assert min(map(drawn.count, range(3))) > 70


def test_of_constant_blocks_nothing_is_missed():
    shape, x, dy, static = arrays((2, 6, 6, 2, 3, 3, 1, "SAME"), batch=4)
    dy = np.repeat(np.repeat(dy[:, ::2, ::2], 2, 1), 2, 2)
    found = weight_gradient(jnp.asarray(x), jnp.asarray(dy), method="corrected", key=jax.random.key(0), **static)
    close(found, wgrad(x, dy, shape))


def test_its_operations_are_those_of_pooled_and_of_the_images_that_are_drawn():
    shape = conv_shape((128, 32, 32, 16), 16, (3, 3))
    found = make("corrected").flops(shape)
    assert found == make("pooled").flops(shape) + shape.flops / 4 + 2 * 128 * 32 * 32 * 16 / 4
    assert found < 0.55 * shape.flops


@pytest.mark.parametrize("params", [{"r": 0}, {"q": 0}, {"q": 1.5}, {"q": True}])
def test_parameters_that_make_no_sense_are_refused(params):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        make("corrected", **params)
