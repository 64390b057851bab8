"""Forward and input gradient by code of our own: right for every shape and tiling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations, count, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.native import conv_tiling, ffi
from approxtrain_kernels.native.conv import Conv
from tests.kernels import oracles
from tests.sampling import latin

pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")

KINDS = ("forward", "dgrad")
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


def arrays(shape, kind, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape.x_shape if kind == "forward" else shape.y_shape, np.float32)
    return a, rng.standard_normal(shape.w_shape, np.float32)


def exact(a, w, shape, kind):
    """The sum that defines it, in float64."""
    return getattr(oracles, kind)(a, w, shape)


def computed(kernel, a, w):
    """The result by this kernel, under a name of its own."""
    name = f"test_conv_{next(numbers)}"
    ffi.register(name, kernel)
    sizes = [jax.ShapeDtypeStruct(size, jnp.float32) for size in (kernel.result, (kernel.workspace,))]
    return np.asarray(jax.jit(lambda a, w: jax.ffi.ffi_call(name, sizes)(a, w)[0])(a, w))


def close(found, expected, tolerance=2e-6):
    assert np.abs(found - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize(("name", "kind"), latin(list(CASES), list(KINDS), others=pytest.mark.gate))
def test_it_is_the_sum_that_defines_it(name, kind):
    shape = shape_of(*CASES[name])
    a, w = arrays(shape, kind)
    close(np.asarray(jax.jit(partial(getattr(native, kind), shape=shape))(a, w)), exact(a, w, shape, kind))


NAMES = ("a rest beside blocks", "few channels", "stride 2, odd", "whole images")
DIVISIONS = [
    (1, 2**30, 2**30, 2**30),
    (2, 0, 2**11, 2**30),
    (3, 2**14, 2**10, 0),
    (16, 2**12, 2**12, 0),
    (64, 2**30, 2**10, 0),
]
"""Threads, bytes of a group, of a panel, of packed weights: one thread and more than there are images; one image a
group and all; panels of a few numbers and of all taps."""
LANES = (8, 16)
TILINGS = [
    (name, division, LANES[(i + j) % 2], KINDS[(i + j) // 2 % 2])
    for (i, name), (j, division) in product(enumerate(NAMES), enumerate(DIVISIONS))
]


def test_the_chosen_tilings_have_every_pair():
    for one, other in combinations(range(4), 2):
        axes = (NAMES, DIVISIONS, LANES, KINDS)
        assert {(row[one], row[other]) for row in TILINGS} == set(product(axes[one], axes[other]))


def right_in(monkeypatch, name, division, lanes, kind):
    threads, group, panel, packed = division
    monkeypatch.setattr(conv_tiling, "GROUP_BYTES", group)
    monkeypatch.setattr(conv_tiling, "PANEL_BYTES", panel)
    monkeypatch.setattr(conv_tiling, "PACKED_BYTES", packed)
    kernel = Conv(replace(shape_of(*CASES[name]), batch=9), threads, lanes, kind == "dgrad")
    a, w = arrays(kernel.shape, kind)
    close(computed(kernel, a, w), exact(a, w, kernel.shape, kind), 5e-6)  # panels of a few numbers add up one by one


@pytest.mark.gate
@pytest.mark.parametrize(("name", "division", "lanes", "kind"), TILINGS)
def test_every_tiling_gives_the_same(name, division, lanes, kind, monkeypatch):
    right_in(monkeypatch, name, division, lanes, kind)


@pytest.mark.long
@pytest.mark.parametrize(("name", "division", "lanes", "kind"), [*product(NAMES, DIVISIONS, LANES, KINDS)])
def test_every_combination_of_tilings_gives_the_same(name, division, lanes, kind, monkeypatch):
    right_in(monkeypatch, name, division, lanes, kind)


def test_tilings_are_of_all_kinds():
    large, small = shape_of(128, 4, 4, 512, 512, 3, 1, "SAME"), shape_of(128, 32, 32, 16, 16, 3, 1, "SAME")
    assert (Conv(large, 2, 16).image_shares, Conv(large, 2, 16).channel_shares) == (1, 2)
    assert (Conv(small, 2, 16).image_shares, Conv(small, 2, 16).channel_shares) == (2, 1)
    assert not Conv(large, 2, 16).copies  # a border would be a third of the products
    assert Conv(small, 2, 16).copies
    assert not Conv(small, 2, 16).packs  # all output channels are a block
    assert Conv(small, 2, 16, backward=True).packs


layers = st.tuples(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 70), st.integers(1, 70),
    st.integers(1, 4), st.integers(1, 3), st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    st.integers(1, 5), st.sampled_from([8, 16]), st.sampled_from(KINDS),
)  # fmt: skip


@pytest.mark.gate
@settings(max_examples=60, deadline=None)
@given(layers)
def test_random_layers(layer):
    *case, threads, lanes, kind = layer
    try:
        shape = shape_of(*case)
    except ValueError:
        return  # the kernel does not fit
    a, w = arrays(shape, kind)
    close(computed(Conv(shape, threads, lanes, kind == "dgrad"), a, w), exact(a, w, shape, kind))


@pytest.mark.gate
@pytest.mark.parametrize("kind", KINDS)
def test_long_sums_keep_their_digits(kind):
    shape = shape_of(2, 6, 6, 1024, 1024, 3, 1, "SAME")
    a, w = map(np.abs, arrays(shape, kind))
    close(np.asarray(getattr(native, kind)(jnp.asarray(a), jnp.asarray(w), shape)), exact(a, w, shape, kind))
