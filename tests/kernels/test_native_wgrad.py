"""Weight gradients by code of our own: right for every shape and tiling."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from itertools import combinations, count, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approxtrain_kernels import conv_shape, native, pooling, weight_gradient
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.methods.pooled import Pooled
from approxtrain_kernels.native import ffi, wgrad_tiling
from approxtrain_kernels.native.topk_wgrad import TopkWgrad
from approxtrain_kernels.native.wgrad import Wgrad
from tests.sampling import latin

pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")


numbers = count()
"""A name can be registered once."""


def shape_of(n, h, w, ci, co, k, stride, padding):
    return conv_shape((n, h, w, ci), co, (k, k), (stride, stride), padding)


def arrays(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape.x_shape, np.float32), rng.standard_normal(shape.y_shape, np.float32)


def exact(x, dy, shape, r=1):
    """r = 0: of the largest entries."""
    method = {0: Approx(), 1: Full()}.get(r) or Pooled(r)
    return method.oracle(x.astype(np.float64), dy.astype(np.float64), shape)


def computed(kernel, x, dy):
    """dW by this kernel, under a name of its own."""
    name = f"test_wgrad_{next(numbers)}"
    ffi.register(name, kernel)
    sizes = [jax.ShapeDtypeStruct(size, jnp.float32) for size in (kernel.result, (kernel.workspace,))]
    dw = np.asarray(jax.jit(lambda x, dy: jax.ffi.ffi_call(name, sizes)(x, dy)[0])(x, dy))
    return dw.transpose(1, 2, 3, 0) if isinstance(kernel, TopkWgrad) else dw


# N, H, W, Ci, Co, K, stride, padding, r
CASES = {
    "3x3": (5, 8, 8, 16, 16, 3, 1, "SAME", 1),
    "taps of their own": (4, 6, 7, 40, 48, 3, 1, "SAME", 1),
    "few channels": (4, 9, 7, 3, 32, 3, 1, "SAME", 1),
    "fewer outputs than a register": (3, 6, 5, 4, 10, 3, 1, "SAME", 1),
    "one output channel": (2, 5, 5, 33, 1, 3, 1, "SAME", 1),
    "a rest beside registers": (3, 5, 6, 7, 21, 3, 1, "SAME", 1),
    "a rest beside blocks": (3, 4, 4, 64, 530, 3, 1, "SAME", 1),
    "stride 2": (6, 8, 8, 16, 32, 3, 2, "SAME", 1),
    "stride 2, odd": (4, 9, 7, 33, 32, 3, 2, "SAME", 1),
    "1x1 stride 2": (3, 8, 8, 32, 32, 1, 2, "SAME", 1),
    "5x5": (4, 10, 10, 3, 64, 5, 1, "SAME", 1),
    "valid": (4, 9, 9, 5, 16, 3, 2, "VALID", 1),
    "no border, but a corner": (4, 5, 5, 8, 16, 2, 3, ((1, 0), (1, 0)), 1),
    "explicit padding": (4, 8, 9, 4, 16, 3, 2, ((2, 0), (1, 3)), 1),
    "padding beyond the kernel": (2, 5, 5, 40, 16, 3, 1, ((4, 3), (0, 5)), 1),
    "stride beyond the image": (2, 5, 6, 4, 16, 3, 4, "SAME", 1),
    "a tap that sees nothing": (3, 1, 2, 32, 16, 3, 1, "SAME", 1),
    "pooled": (5, 8, 8, 16, 16, 3, 1, "SAME", 2),
    "pooled by 3": (4, 12, 6, 3, 32, 3, 1, "SAME", 3),
    "pooled, stride 2": (6, 8, 8, 16, 32, 3, 2, "SAME", 2),
    "pooled, 1x1": (3, 16, 8, 16, 32, 1, 2, "SAME", 4),
    "pooled, taps of their own": (4, 8, 8, 40, 16, 3, 1, "SAME", 2),
    "pooled, 5x5, explicit padding": (4, 12, 12, 32, 16, 5, 2, ((3, 1), (0, 4)), 2),
    "pooled over rows that no box holds": (3, 1, 6, 16, 16, 3, 2, ((2, 2), (0, 0)), 2),
    "pooled over nothing but padding": (3, 4, 1, 3, 16, 1, 10, ((0, 7), (11, 0)), 2),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_the_sum_that_defines_it(case):
    shape, r = shape_of(*case[:-1]), case[-1]
    x, dy = arrays(shape)
    found = np.asarray(jax.jit(partial(native.wgrad, shape=shape, r=r))(x, dy))
    expected = exact(x, dy, shape, r)
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "gather"), latin(list(CASES), [True, False], others=pytest.mark.gate))
def test_the_largest_entries_are_those_of_the_definition(name, gather):
    shape = shape_of(*CASES[name][:-1])
    x, random = arrays(shape)
    half_zeros = random.copy()
    half_zeros[..., ::2] = 0
    compute = jax.jit(partial(native.topk_wgrad, shape=shape, gather=gather))
    for dy in (random, np.sign(random), half_zeros):  # of equal entries the first is taken
        expected = exact(x, dy, shape, 0)
        error = np.abs(np.asarray(compute(x, dy)) - expected).max()
        assert error <= 2e-6 * max(np.abs(expected).max(), 1e-9)


NAMES = ("a rest beside blocks", "few channels", "pooled", "pooled, taps of their own")
DIVISIONS = [(1, 2**30, 2**30), (2, 0, 2**30), (3, 2**14, 2**30), (16, 0, 0), (7, 2**12, 2**14), (64, 2**30, 2**30)]
"""Threads, bytes of a group, bytes of all sums: one thread and more than there are images; one image a group and all;
slices of images, of channels, of both."""
LANES = (8, 16)
KINDS = ("exact or pooled", "patches", "scatter_top1")
TILINGS = [
    (name, division, LANES[(i + j) % 2], KINDS[(i + j) % 3])
    for (i, name), (j, division) in product(enumerate(NAMES), enumerate(DIVISIONS))
]


def test_the_chosen_tilings_have_every_pair():
    for one, other in combinations(range(4), 2):
        axes = (NAMES, DIVISIONS, LANES, KINDS)
        assert {(row[one], row[other]) for row in TILINGS} == set(product(axes[one], axes[other]))


def right_in(monkeypatch, name, division, lanes, kind):
    threads, group, summed = division
    monkeypatch.setattr(wgrad_tiling, "GROUP_BYTES", group)
    monkeypatch.setattr(wgrad_tiling, "SUMMED_BYTES", summed)
    shape, r = replace(shape_of(*CASES[name][:-1]), batch=9), CASES[name][-1]
    x, dy = arrays(shape)
    if kind == "exact or pooled":
        kernel, expected = Wgrad(shape, threads, lanes, r), exact(x, dy, shape, r)
    else:
        patches = kind == "patches"
        kernel = TopkWgrad(shape, threads, lanes) if patches else Wgrad(shape, threads, lanes, scatter_top1=True)
        expected = exact(x, dy, shape, 0)
    assert np.abs(computed(kernel, x, dy) - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.gate
@pytest.mark.parametrize(("name", "division", "lanes", "kind"), TILINGS)
def test_every_tiling_gives_the_same(name, division, lanes, kind, monkeypatch):
    right_in(monkeypatch, name, division, lanes, kind)


@pytest.mark.long
@pytest.mark.parametrize(("name", "division", "lanes", "kind"), [*product(NAMES, DIVISIONS, LANES, KINDS)])
def test_every_combination_of_tilings_gives_the_same(name, division, lanes, kind, monkeypatch):
    right_in(monkeypatch, name, division, lanes, kind)


def test_tilings_are_of_all_kinds():
    large, small = shape_of(128, 4, 4, 512, 512, 3, 1, "SAME"), shape_of(128, 8, 8, 64, 64, 3, 1, "SAME")
    assert (Wgrad(large, 2, 16).image_shares, Wgrad(large, 2, 16).channel_shares) == (1, 2)
    assert (Wgrad(small, 2, 16).image_shares, Wgrad(small, 2, 16).channel_shares) == (2, 1)
    assert not Wgrad(small, 2, 16).copies  # x is read as it lies
    assert Wgrad(replace(small, in_channels=8), 2, 16).copies
    assert Wgrad(small, 2, 16).workspace == 64 * 64 * 9
    groups = Wgrad(large, 2, 16).group, Wgrad(large, 2, 16, r=2).group
    assert groups == (8, 32)  # 128 pixels of dO, and 128 means


layers = st.tuples(
    st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.integers(1, 40), st.integers(1, 40),
    st.integers(1, 4), st.integers(1, 3),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2), st.integers(1, 3), st.integers(1, 5),
)  # fmt: skip


@pytest.mark.gate
@settings(max_examples=40, deadline=None)
@given(layers)
def test_random_layers(layer):
    *case, r, threads = layer
    try:
        shape = shape_of(*case)
    except ValueError:
        return  # the kernel does not fit
    r = r if shape.y_shape[1] % r == 0 == shape.y_shape[2] % r else 1
    x, dy = arrays(shape)
    here, of_largest = (shape, threads, ffi.lanes() or 8), exact(x, dy, shape, 0)
    for kernel, expected in (
        (Wgrad(*here, r), exact(x, dy, shape, r)),
        (Wgrad(*here, scatter_top1=True), of_largest),
        (TopkWgrad(*here), of_largest),
    ):
        error = np.abs(computed(kernel, x, dy) - expected).max()
        assert error <= 3e-6 * max(np.abs(expected).max(), 1e-3)


def test_blocks_that_do_not_fit_are_refused():
    shape = shape_of(2, 7, 8, 16, 16, 3, 1, "SAME")
    with pytest.raises(ValueError, match=r"`r` \(=2\) .* 7×8"):
        native.wgrad(*map(jnp.asarray, arrays(shape)), shape, r=2)


@pytest.mark.gate
def test_long_sums_keep_their_digits():
    shape = shape_of(128, 32, 32, 4, 16, 3, 1, "SAME")
    x, dy = arrays(shape)
    expected = exact(np.abs(x), dy, shape)
    found = np.asarray(native.wgrad(jnp.abs(x), jnp.asarray(dy), shape))
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


def test_pooled_takes_it_where_blocks_fit_and_sums_the_edges_otherwise():
    for side, calls in ((8, 1), (7, 3)):  # the corner's one pixel is a matrix product
        shape = shape_of(4, side, side, 16, 16, 3, 1, "SAME")
        x, dy = arrays(shape)
        program = jax.jit(partial(pooling.wgrad, shape=shape, r=2)).lower(x, dy).compile()
        assert program.as_text().count('custom_call_target="approxtrain_wgrad_') == calls
        expected = exact(x, dy, shape, 2)
        assert np.abs(np.asarray(program(x, dy)) - expected).max() <= 2e-6 * np.abs(expected).max()


def test_approx_takes_it_with_one_entry_and_fetches_patches_where_maps_are_not_tiny():
    for side, k, implementation, rule in (
        (8, 1, None, "topk_wgrad"),
        (2, 1, None, "scatter_top1"),
        (8, 2, None, None),
        (8, 1, "xla", None),
    ):
        shape = shape_of(4, side, side, 16, 16, 3, 1, "SAME")
        x, dy = arrays(shape)
        method = partial(weight_gradient, kernel_size=(3, 3), method="approx", k=k, implementation=implementation)
        program = jax.jit(method).lower(x, dy).compile()
        assert re.findall(r'custom_call_target="approxtrain_([a-z]\w*?)_[\d_]+"', program.as_text()) == [rule] * bool(
            rule
        )
        expected = Approx(k).oracle(x, dy, shape)
        assert np.abs(np.asarray(program(x, dy)) - expected).max() <= 2e-6 * np.abs(expected).max()
