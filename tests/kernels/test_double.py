"""In float64 everything is computed in float64: what differs only there is told apart, and nothing is rounded."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv_shape, weight_gradient
from approxtrain_kernels.methods import all_methods, make
from approxtrain_kernels.methods.approx import PORTABLE

SHAPE = conv_shape((2, 5, 5, 3), 4, (3, 3))
KEY = jax.random.key(0)
EVERY = [(name, {}) for name in all_methods() if name != "random"]
EVERY += [("approx", {"k": k, "implementation": form}) for k in (1, 2, 9) for form in PORTABLE]


@pytest.mark.parametrize(("name", "params"), EVERY, ids=str)
def test_a_weight_gradient_in_float64_is_that_of_the_oracle(name, params):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(SHAPE.x_shape), rng.standard_normal(SHAPE.y_shape)
    dy[0, 1, 1, 0], dy[0, 2, 2, 0] = 100.0, 100.0 + 1e-9  # equal in float32, where the first of them is taken
    method = make(name, **params)
    with jax.enable_x64(True):
        found = weight_gradient(jnp.asarray(x), jnp.asarray(dy), kernel_size=(3, 3), method=method, key=KEY)
        exact = method.oracle(x, dy, SHAPE, KEY)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-11)
