"""The GPU kernels of `approx`, interpreted, against the float64 oracle: every form, over values drawn by hypothesis.

Each case is compiled once. What varies is values: planes of ties, zeros, NaN, infinities, opposite signs.
"""

from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approxtrain_kernels import conv, conv_shape, sparse, weight_gradient
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas import choose, wgrad
from approxtrain_kernels.pallas.select import select
from approxtrain_kernels.pallas.wgrad import estimate
from tests.kernels.oracles import close
from tests.sampling import chosen

ODD = ((2, 0), (1, 3))
CASES = {  # form, k, type, (N, H, W, Ci, Co, K, stride, padding), blocks to change
    "gather": ("gather", 1, "float32", (3, 7, 5, 3, 19, 3, 1, "SAME"), {}),
    "gather, stride 2, k 2": ("gather", 2, "float32", (2, 6, 8, 17, 4, 3, 2, "SAME"), {}),
    "gather, 5x5, odd padding": ("gather", 1, "float32", (2, 5, 6, 2, 3, 5, 2, ODD), {}),
    "gather, 1x1, k 3": ("gather", 3, "float32", (2, 5, 5, 20, 33, 1, 2, "SAME"), {}),
    "gather, uneven splits": ("gather", 1, "float32", (5, 4, 4, 3, 3, 3, 1, "VALID"), {"splits": 4}),
    "gather, one split": ("gather", 2, "float32", (5, 4, 4, 3, 3, 3, 1, "SAME"), {"splits": 1}),
    "gather, bfloat16": ("gather", 1, "bfloat16", (2, 5, 7, 3, 9, 3, 2, ODD), {}),
    "gather, float16": ("gather", 3, "float16", (2, 5, 7, 3, 9, 3, 1, "SAME"), {}),
    "gather, k by sorting": ("gather", 17, "float32", (2, 5, 5, 3, 3, 3, 1, "SAME"), {}),
    "fused": ("fused", 1, "float32", (3, 7, 5, 3, 19, 3, 2, "SAME"), {"splits": 2, "pixels": 4}),
    "fused, k 3, uneven splits": ("fused", 3, "float32", (5, 5, 5, 3, 9, 3, 1, ODD), {"splits": 2}),
    "fused, two blocks of inputs": ("fused", 2, "bfloat16", (2, 5, 7, 20, 9, 3, 1, "SAME"), {"ci": 16}),
    "tensor": ("tensor", 1, "float32", (3, 7, 5, 20, 19, 3, 1, "SAME"), {}),
    "tensor, k 3, uneven splits": ("tensor", 3, "float32", (5, 5, 5, 3, 9, 3, 2, ODD), {"splits": 2, "images": 2}),
    "tensor, bfloat16": ("tensor", 2, "bfloat16", (5, 5, 7, 3, 17, 3, 1, "SAME"), {"splits": 2, "images": 2}),
    "tensor, float16": ("tensor", 1, "float16", (2, 5, 7, 3, 9, 1, 2, "SAME"), {}),
    "dense": ("dense", 3, "float32", (3, 7, 5, 3, 9, 3, 2, "SAME"), {}),
    "dense, bfloat16": ("dense", 1, "bfloat16", (2, 5, 7, 3, 9, 3, 1, ODD), {}),
}
QUICK = (
    "gather, uneven splits",
    "tensor, bfloat16",
)
FINITE = ("as drawn", "ties", "zeros", "opposite signs")
PLANES = (*FINITE, "nan", "all nan", "inf", "both infinities")
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-2}


def geometry(case):
    n, h, w, ci, co, kernel, stride, padding = case
    return conv_shape((n, h, w, ci), co, (kernel, kernel), (stride, stride), padding)


@cache
def compiled(name):
    form, k, dtype, case, change = CASES[name]
    shape = geometry(case)
    plan = next(plan for plan in choose.plans(shape, k, dtype) if plan.form == form)
    if change:
        plan = replace(plan, blocks=replace(plan.blocks, **change))
    return jax.jit(partial(estimate, shape=shape, k=k, plan=plan, interpret=True))


@st.composite
def values(draw, shape, planes=PLANES):
    """x and dO that float16 holds exactly, some planes of dO with a catch."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, dy = (np.round(rng.standard_normal(s) * 16) / 16 for s in (shape.x_shape, shape.y_shape))
    n, ho, wo, co = shape.y_shape
    for _ in range(draw(st.integers(0, 3))):
        plane = dy[draw(st.integers(0, n - 1)), :, :, draw(st.integers(0, co - 1))]
        first, second = (np.unravel_index(draw(st.integers(0, ho * wo - 1)), (ho, wo)) for _ in range(2))
        match draw(st.sampled_from(planes)):
            case "ties":
                plane[...] = 0.5 * np.sign(plane)
            case "zeros":
                plane[...] = 0
            case "nan":
                plane[first] = np.nan
            case "all nan":
                plane[...] = np.nan
            case "inf":
                plane[first] = np.inf
            case "both infinities":
                plane[second], plane[first] = -np.inf, np.inf
            case "opposite signs":
                plane[second], plane[first] = -4, 4
    return x, dy


@pytest.mark.parametrize("name", chosen(CASES, QUICK))
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_form_is_the_oracle(name, data):
    form, k, dtype, case, _ = CASES[name]
    shape = geometry(case)
    # a library's convolution may leave out what an infinity does to the zeros of the padding
    planes = FINITE if form == "dense" else PLANES
    x, dy = (jnp.asarray(a, dtype) for a in data.draw(values(shape, planes)))
    with np.errstate(invalid="ignore"):
        exact = make("approx", k=k).oracle(np.asarray(x, np.float64), np.asarray(dy, np.float64), shape)
    close(compiled(name)(x, dy), exact, TOLERANCE[dtype])


@cache
def selected(shape, k):
    return jax.jit(partial(select, shape=shape, k=k, interpret=True))


@pytest.mark.parametrize("k", [1, 3])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_selection_is_that_of_a_sort_where_there_is_no_nan_and_in_range_where_there_is(k, data):
    shape = geometry((2, 17, 16, 1, 33, 3, 1, "SAME"))
    _, dy = data.draw(values(shape))
    dy = jnp.asarray(dy, jnp.float32)
    position, value = (np.asarray(a) for a in selected(shape, k)(dy))
    expected, carried = (np.asarray(a) for a in sparse.select_top(dy, k))
    plain = np.isfinite(carried) & np.isfinite(np.asarray(dy)).all((1, 2))[:, None]
    np.testing.assert_array_equal(position[plain], expected[plain])
    np.testing.assert_allclose(value[plain], carried[plain], rtol=1e-5, atol=1e-4)
    assert position.min() >= 0
    assert position.max() < 17 * 16


@pytest.mark.gate
@pytest.mark.parametrize("name", ["gather", "fused", "tensor"])
def test_the_same_bits_come_out_again(name):
    shape = geometry(CASES[name][3])
    rng = np.random.default_rng(0)
    x, dy = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in (shape.x_shape, shape.y_shape))
    np.testing.assert_array_equal(compiled(name)(x, dy), compiled(name)(x, dy))


@pytest.mark.gate
def test_it_is_the_same_under_vmap_and_in_scan_and_switch():
    shape = geometry((2, 6, 5, 2, 3, 3, 1, "SAME"))
    rng = np.random.default_rng(0)
    x, dy = (jnp.asarray(rng.standard_normal((2, *s)), jnp.float32) for s in (shape.x_shape, shape.y_shape))
    one = partial(weight_gradient, kernel_size=(3, 3), method="approx", implementation="pallas-interpret")
    expected = [make("approx").oracle(np.asarray(x[i]), np.asarray(dy[i]), shape) for i in (0, 1)]

    def step(total, inputs):
        number, x, dy = inputs
        return total + jax.lax.switch(number, [one, lambda x, dy: 2 * one(x, dy)], x, dy), None

    looped = jax.jit(lambda x, dy: jax.lax.scan(step, jnp.zeros(shape.w_shape), (jnp.arange(2), x, dy))[0])
    for dw, exact in zip(jax.jit(jax.vmap(one))(x, dy), expected, strict=True):
        close(dw, exact, 1e-5)
    close(looped(x, dy), expected[0] + 2 * expected[1], 1e-5)


def test_the_seam_takes_it_for_its_weight_gradient():
    shape = geometry((2, 6, 5, 2, 3, 3, 1, "SAME"))
    rng = np.random.default_rng(0)
    x, w, dy = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in (shape.x_shape, shape.w_shape, shape.y_shape))
    loss = partial(conv, method="approx", implementation="pallas-interpret")
    dw = jax.jit(jax.grad(lambda w: (loss(x, w) * dy).sum()))(w)
    close(dw, make("approx").oracle(np.asarray(x), np.asarray(dy), shape), 1e-5)


def test_what_the_kernels_do_not_take_is_computed_by_xla_or_refused_by_name():
    x, dy = jnp.ones((2, 6, 6, 3)), jnp.ones((2, 6, 6, 4))
    with jax.enable_x64(True):
        double = [jnp.asarray(np.asarray(a), jnp.float64) for a in (x, dy)]
        found = jax.jit(partial(weight_gradient, kernel_size=(3, 3), method="approx"))(*double)
        assert found.dtype == jnp.float64
        with pytest.raises(ValueError, match="this is float64, or an older GPU: take 'xla'"):
            weight_gradient(*double, kernel_size=(3, 3), method="approx", implementation="pallas-interpret")


@pytest.mark.parametrize(("capability", "runs"), [("7.5", False), ("8.0", True), ("9.0", True)])
def test_an_old_gpu_is_left_to_xla(capability, runs, monkeypatch):
    monkeypatch.setattr(wgrad.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(wgrad.jax, "devices", lambda: [SimpleNamespace(compute_capability=capability)])
    assert wgrad.supports("float32") is runs
