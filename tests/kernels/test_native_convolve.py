"""Forward and input gradient by code of our own: right for every shape and cutting, wherever a program may put them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from approxtrain_kernels import canonical, conv_shape, dense, native
from approxtrain_kernels.native import convolve, engine, sweep
from approxtrain_kernels.native.sweep import Sweep

pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")

PARTS = ("forward", "dgrad")
numbers = count()
"""A name can be registered once."""

# N, H, W, Ci, Co, K, stride, padding
CASES = {
    "3x3": (5, 8, 8, 16, 16, 3, 1, "SAME"),
    "few channels": (4, 9, 7, 3, 32, 3, 1, "SAME"),
    "fewer channels than a register": (3, 6, 5, 4, 10, 3, 1, "SAME"),
    "one output channel": (2, 5, 5, 33, 1, 3, 1, "SAME"),
    "a rest beside registers": (3, 5, 6, 7, 21, 3, 1, "SAME"),
    "a rest beside blocks": (3, 4, 4, 64, 530, 3, 1, "SAME"),
    "rows that tiles do not divide": (3, 7, 31, 8, 8, 3, 1, "SAME"),
    "tap by tap": (5, 4, 4, 160, 72, 3, 1, "SAME"),
    "tap by tap, a tap in pieces": (3, 4, 4, 600, 40, 3, 1, "SAME"),
    "whole images": (9, 2, 2, 40, 40, 3, 1, "SAME"),
    "one pixel": (7, 1, 1, 24, 40, 1, 1, "SAME"),
    "stride 2": (6, 8, 8, 16, 32, 3, 2, "SAME"),
    "stride 2, odd": (4, 9, 7, 33, 32, 3, 2, "SAME"),
    "stride 2, tap by tap": (4, 4, 4, 128, 128, 3, 2, "SAME"),
    "1x1 stride 2": (3, 8, 8, 32, 32, 1, 2, "SAME"),
    "2x2 stride 3": (4, 9, 9, 4, 4, 2, 3, "VALID"),
    "5x5": (4, 10, 10, 3, 64, 5, 1, "SAME"),
    "5x5 stride 2, valid": (3, 12, 11, 4, 4, 5, 2, "VALID"),
    "explicit padding": (4, 8, 9, 4, 16, 3, 2, ((2, 0), (1, 3))),
    "padding beyond the kernel": (2, 5, 5, 40, 16, 3, 1, ((4, 3), (0, 5))),
    "stride beyond the image": (2, 5, 6, 4, 16, 3, 4, "SAME"),
    "a tap that sees nothing": (3, 1, 2, 32, 16, 3, 1, "SAME"),
}


def shape_of(n, h, w, ci, co, k, stride, padding):
    return conv_shape((n, h, w, ci), co, (k, k), (stride, stride), padding)


def arrays(shape, part, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape.x_shape if part == "forward" else shape.y_shape, np.float32)
    return a, rng.standard_normal(shape.w_shape, np.float32)


def exact(a, w, shape, part):
    """The sum that defines it, in float64: each tap joins a grid of pixels of x to all of y."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)) = shape.kernel_size, shape.strides, shape.padding
    n, ho, wo, co = shape.y_shape
    bordered = np.zeros((n, shape.height + top + bottom, shape.width + left + right, shape.in_channels))
    inside = bordered[:, top : top + shape.height, left : left + shape.width]
    y, a, w = np.zeros((n, ho, wo, co)), a.astype(np.float64), w.astype(np.float64)
    if part == "forward":
        inside[...] = a
    for i in range(kh):
        for j in range(kw):
            seen = bordered[:, i : i + (ho - 1) * sh + 1 : sh, j : j + (wo - 1) * sw + 1 : sw]
            if part == "forward":
                y += seen @ w[i, j]
            else:
                seen += a @ w[i, j].T
    return y if part == "forward" else inside


def by(plan, a, w):
    """The result by the code of this cutting, under a name of its own."""
    name = f"test_convolve_{next(numbers)}"
    engine.register(name, str(convolve.module(plan)), plan.parts)
    result = plan.shape.x_shape if plan.backward else plan.shape.y_shape
    kinds = (jax.ShapeDtypeStruct(result, jnp.float32), jax.ShapeDtypeStruct((plan.workspace,), jnp.float32))
    return np.asarray(jax.jit(lambda a, w: jax.ffi.ffi_call(name, kinds)(a, w)[0])(a, w))


def close(found, expected, tolerance=2e-6):
    assert np.abs(found - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_the_sum_that_defines_it(case, part):
    shape = shape_of(*case)
    a, w = arrays(shape, part)
    close(np.asarray(jax.jit(partial(getattr(native, part), shape=shape))(a, w)), exact(a, w, shape, part))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize(
    ("threads", "group", "panel", "own"),
    [
        (1, 2**30, 2**30, 2**30),
        (2, 0, 2**11, 2**30),
        (3, 2**14, 2**10, 0),
        (16, 2**12, 2**12, 0),
        (64, 2**30, 2**10, 0),
    ],
)
@pytest.mark.parametrize("name", ["a rest beside blocks", "few channels", "stride 2, odd", "whole images"])
def test_every_cutting_gives_the_same(name, threads, group, panel, own, lanes, part, monkeypatch):
    """One thread and more than there are images; one image a group and all; panels of a few numbers and of all taps."""
    monkeypatch.setattr(sweep, "GROUP_BYTES", group)
    monkeypatch.setattr(sweep, "PANEL_BYTES", panel)
    monkeypatch.setattr(sweep, "OWN_BYTES", own)
    plan = Sweep(replace(shape_of(*CASES[name]), batch=9), threads, lanes, part == "dgrad")
    a, w = arrays(plan.shape, part)
    close(by(plan, a, w), exact(a, w, plan.shape, part), 5e-6)  # panels of a few numbers add up one by one


def test_cuttings_are_of_all_kinds():
    large, small = shape_of(128, 4, 4, 512, 512, 3, 1, "SAME"), shape_of(128, 32, 32, 16, 16, 3, 1, "SAME")
    assert (Sweep(large, 2, 16).by_images, Sweep(large, 2, 16).by_channels) == (1, 2)
    assert (Sweep(small, 2, 16).by_images, Sweep(small, 2, 16).by_channels) == (2, 1)
    assert not Sweep(large, 2, 16).copies  # a border would be a third of the products
    assert Sweep(small, 2, 16).copies
    assert not Sweep(small, 2, 16).arranges  # all output channels are a block
    assert Sweep(small, 2, 16, backward=True).arranges


layers = st.tuples(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 70), st.integers(1, 70),
    st.integers(1, 4), st.integers(1, 3), st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    st.integers(1, 5), st.sampled_from([8, 16]), st.sampled_from(PARTS),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(layers)
def test_random_layers(layer):
    *case, threads, lanes, part = layer
    try:
        shape = shape_of(*case)
    except ValueError:
        return  # the kernel does not fit
    a, w = arrays(shape, part)
    close(by(Sweep(shape, threads, lanes, part == "dgrad"), a, w), exact(a, w, shape, part))


@pytest.mark.parametrize("part", PARTS)
def test_long_sums_keep_their_digits(part):
    shape = shape_of(2, 6, 6, 1024, 1024, 3, 1, "SAME")
    a, w = map(np.abs, arrays(shape, part))
    close(np.asarray(getattr(native, part)(jnp.asarray(a), jnp.asarray(w), shape)), exact(a, w, shape, part))


def test_a_nan_reaches_what_sees_it_and_nothing_else():
    for name in ("3x3", "tap by tap"):
        shape = shape_of(*CASES[name])
        x, w = arrays(shape, "forward")
        x[1, 2, 3, 0] = np.nan
        y = np.asarray(native.forward(jnp.asarray(x), jnp.asarray(w), shape))
        sees = np.zeros(y.shape, bool)
        sees[1, 1:4, 2:5] = True
        np.testing.assert_array_equal(np.isnan(y), sees)


@pytest.mark.parametrize("part", PARTS)
def test_it_runs_in_loops_branches_and_batches(part):
    shape = shape_of(3, 6, 6, 8, 16, 3, 1, "SAME")
    a, w = arrays(shape, part)
    run = partial(getattr(dense, part), shape=shape)
    expected = np.asarray(getattr(canonical, part)(jnp.asarray(a), jnp.asarray(w), shape))
    several = jnp.stack([a, 2 * a])

    def branch(carry, a):
        return carry, lax.switch(carry, [lambda a: run(a, w), lambda a: 0 * run(a, w)], a)

    in_loop = jax.jit(lambda several: lax.scan(branch, jnp.int32(0), several)[1])(several)
    batched = jax.jit(jax.vmap(lambda a: run(a, w)))(several)
    for found in (in_loop, batched):
        np.testing.assert_allclose(found, [expected, 2 * expected], rtol=1e-5, atol=1e-5)


def test_many_at_once_neither_wait_for_each_other_nor_differ():
    """Independent calls run side by side on one pool of threads; twice the same bits."""
    shape = shape_of(32, 9, 8, 5, 7, 3, 1, "SAME")
    (x, w), (dy, _) = arrays(shape, "forward"), arrays(shape, "dgrad")

    @jax.jit
    def several(xs):
        ys = [native.forward(x, w, shape) for x in xs]
        return [native.wgrad(x, y + dy, shape) for x, y in zip(xs, ys, strict=True)]

    xs = [x * number for number in range(12)]
    runs = [several(xs) for _ in range(20)]
    for run in runs[1:]:
        jax.tree.map(np.testing.assert_array_equal, run, runs[0])


@pytest.mark.parametrize("part", PARTS)
def test_a_cpu_program_calls_it_and_a_gpu_program_does_not(part):
    shape = shape_of(*CASES["3x3"])
    traced = jax.jit(partial(getattr(dense, part), shape=shape)).trace(*map(jnp.asarray, arrays(shape, part)))
    assert f"approxtrain_{part}_" in traced.lower(lowering_platforms=("cpu",)).as_text()
    gpu = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "approxtrain" not in gpu
    assert "stablehlo.convolution" in gpu
