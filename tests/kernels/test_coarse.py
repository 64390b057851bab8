"""`coarse`: both gradients against float64 from the projection, and the kernel of the coarse grid."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv, conv_shape
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.coarse import Coarse
from tests.kernels.oracles import CASES, close, dgrad, forward, wgrad

WHOLE = {
    "3x3": (3, 6, 12, 2, 3, 3, 1, "SAME"),
    "1x1": (2, 6, 12, 3, 2, 1, 1, "SAME"),
    "5x5": (2, 6, 6, 2, 2, 5, 1, "SAME"),
    "2x2": (2, 6, 6, 2, 2, 2, 1, "SAME"),
    "padding on one side": (2, 12, 6, 2, 3, 4, 1, ((3, 0), (0, 3))),
}
"""Convolutions that have one of the coarse grid for r = 2 and 3."""
ELSEWHERE = ["3x3", "3x3 stride 2, even", "3x3 stride 2, odd", "5x5 stride 2, valid", "explicit padding", "1x1 map"]


def arrays(case):
    n, h, w, ci, co, k, stride, padding = case
    shape = conv_shape((n, h, w, ci), co, (k, k), (stride, stride), padding)
    rng = np.random.default_rng(0)
    sizes = (shape.x_shape, shape.y_shape, shape.w_shape)
    return shape, *(rng.standard_normal(size).astype(np.float32) for size in sizes)


def smoothed(image: np.ndarray, r: int) -> np.ndarray:
    """Every pixel the mean of its block, in float64."""
    rows, columns = (np.arange(size) // r for size in image.shape[1:3])
    smooth = np.empty(image.shape)
    for i in np.unique(rows):
        for j in np.unique(columns):
            block = np.ix_(range(len(image)), rows == i, columns == j)
            smooth[block] = image[block].astype(np.float64).mean((1, 2), keepdims=True)
    return smooth


CONVOLUTIONS = [*WHOLE.values(), *(CASES[name] for name in ELSEWHERE)]


@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=[*WHOLE, *(f"elsewhere: {name}" for name in ELSEWHERE)])
def test_both_gradients_are_those_of_the_block_means(case, r):
    shape, x, dy, w = arrays(case)
    method = make("coarse", r=r)
    assert (method.coarser(shape) is not None) is (case in WHOLE.values())
    static = {"strides": shape.strides, "padding": shape.padding}

    @jax.jit
    def both(x, w, dy):
        y, back = jax.vjp(partial(conv, method=method, **static), x, w)
        return y, *back(dy)

    y, dx, dw = both(x, w, dy)
    close(y, forward(x, w, shape))
    close(dw, wgrad(smoothed(x, r), smoothed(dy, r), shape))
    close(dx, smoothed(dgrad(smoothed(dy, r), w, shape), r))
    close(method.oracle(x, dy, shape), wgrad(smoothed(x, r), smoothed(dy, r), shape))
    close(method.dgrad_oracle(x, w, dy, shape), dx)


def test_three_taps_become_those_of_multigrid():
    a, b, c = 3.0, 5.0, 11.0
    spread = Coarse().spread(3, (1, 1), (1, 1))
    np.testing.assert_allclose(spread @ [a, b, c], [a / 2, b + (a + c) / 2, c / 2])


def test_where_blocks_are_constant_it_is_exact():
    shape, x, dy, w = arrays(WHOLE["3x3"])
    x, dy = (np.repeat(np.repeat(image[:, ::2, ::2], 2, 1), 2, 2) for image in (x, dy))
    _, back = jax.vjp(partial(conv, method="coarse"), jnp.asarray(x), jnp.asarray(w))
    close(back(jnp.asarray(dy))[1], wgrad(x, dy, shape))


def test_a_quarter_of_the_input_is_kept_and_its_operations_are_those_of_the_coarse_grid():
    shape = conv_shape((4, 32, 32, 16), 16, (3, 3))
    method = make("coarse")
    kept = jax.eval_shape(partial(method.keep, shape=shape, key=None), jax.ShapeDtypeStruct(shape.x_shape, jnp.float32))
    assert kept.shape == (4, 16, 16, 16)
    assert shape.flops / 4 < method.flops(shape) == method.dgrad_flops(shape) < 0.27 * shape.flops
    assert method.saves_nothing(shape) == {}
    strided = conv_shape((4, 32, 32, 16), 16, (3, 3), (2, 2))
    assert list(method.saves_nothing(strided)) == ["every device"]
    assert method.flops(strided) > strided.flops


def test_both_products_are_of_the_coarse_grid():
    shape, x, dy, w = arrays((2, 8, 8, 4, 4, 3, 1, "SAME"))
    method = make("coarse")
    kept = method.keep(jnp.asarray(x), shape=shape, key=None)
    jaxpr = jax.make_jaxpr(partial(method.gradients, shape=shape, key=None))(kept, w, dy).jaxpr
    products = [eqn for eqn in jaxpr.eqns if "conv" in eqn.primitive.name and "convert" not in eqn.primitive.name]
    assert len(products) == 2
    assert {operand.aval.shape[1] for eqn in products for operand in eqn.invars} == {3, 4}  # kernels and images


def test_a_side_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="must be a whole number"):
        make("coarse", r=0)
