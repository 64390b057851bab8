"""Weight gradients by code of our own: right for every shape and cutting, wherever a program may put them."""

from __future__ import annotations

import re
import threading
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

from approxtrain_kernels import canonical, conv_shape, dense, native, pooling, weight_gradient
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.methods.pooled import Pooled
from approxtrain_kernels.native import engine, entries, generate
from approxtrain_kernels.native.cut import Cut

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


def by(cut, x, dy, fetch=False):
    """dW by the code of this cutting, under a name of its own; `fetch`: that of the largest entries' patches."""
    name = f"test_{next(numbers)}"
    code, size = (entries.module(cut), entries.workspace(cut)) if fetch else (generate.module(cut), cut.workspace)
    engine.register(name, str(code), cut.parts)
    kh, kw, ci, co = cut.shape.w_shape
    result = (co, kh, kw, ci) if fetch else cut.shape.w_shape
    kinds = (jax.ShapeDtypeStruct(result, jnp.float32), jax.ShapeDtypeStruct((size,), jnp.float32))
    dw = np.asarray(jax.jit(lambda x, dy: jax.ffi.ffi_call(name, kinds)(x, dy)[0])(x, dy))
    return dw.transpose(1, 2, 3, 0) if fetch else dw


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


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("inputs", ["random", "ties", "zeros"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_largest_entries_are_those_of_the_definition(case, inputs, fetch):
    shape = shape_of(*case[:-1])
    x, dy = arrays(shape)
    if inputs == "ties":
        dy = np.sign(dy)
    elif inputs == "zeros":
        dy[..., ::2] = 0
    found = np.asarray(jax.jit(partial(native.largest_entries, shape=shape, fetch=fetch))(x, dy))
    expected = exact(x, dy, shape, 0)
    assert np.abs(found - expected).max() <= 2e-6 * max(np.abs(expected).max(), 1e-9)


@pytest.mark.parametrize("rule", ["exact or pooled", "patches", "thin"])
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize(
    ("threads", "group", "summed"),
    [(1, 2**30, 2**30), (2, 0, 2**30), (3, 2**14, 2**30), (16, 0, 0), (7, 2**12, 2**14), (64, 2**30, 2**30)],
)
@pytest.mark.parametrize("name", ["a rest beside blocks", "few channels", "pooled", "pooled, taps of their own"])
def test_every_cutting_gives_the_same(name, threads, group, summed, lanes, rule, monkeypatch):
    """One thread and more than there are images; one image a group and all; parts of images, of channels, of both."""
    monkeypatch.setattr("approxtrain_kernels.native.cut.GROUP_BYTES", group)
    monkeypatch.setattr("approxtrain_kernels.native.cut.SUMMED_BYTES", summed)
    case = CASES[name]
    largest = rule != "exact or pooled"
    cut = Cut(replace(shape_of(*case[:-1]), batch=9), threads, lanes, 1 if largest else case[-1], rule == "thin")
    x, dy = arrays(cut.shape)
    expected = exact(x, dy, cut.shape, 0 if largest else cut.r)
    assert np.abs(by(cut, x, dy, rule == "patches") - expected).max() <= 2e-6 * np.abs(expected).max()


def test_cuttings_are_of_all_kinds():
    large, small = shape_of(128, 4, 4, 512, 512, 3, 1, "SAME"), shape_of(128, 8, 8, 64, 64, 3, 1, "SAME")
    assert (Cut(large, 2, 16).by_images, Cut(large, 2, 16).by_channels) == (1, 2)
    assert (Cut(small, 2, 16).by_images, Cut(small, 2, 16).by_channels) == (2, 1)
    assert not Cut(small, 2, 16).copies  # x is read as it lies
    assert Cut(replace(small, in_channels=8), 2, 16).copies
    assert Cut(small, 2, 16).workspace == 64 * 64 * 9
    assert (Cut(large, 2, 16).images, Cut(large, 2, 16, r=2).images) == (8, 32)  # 128 pixels of dO, and 128 means


layers = st.tuples(
    st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.integers(1, 40), st.integers(1, 40),
    st.integers(1, 4), st.integers(1, 3),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2), st.integers(1, 3), st.integers(1, 5),
)  # fmt: skip


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
    cut = Cut(shape, threads, engine.lanes() or 8, r)
    of_largest = exact(x, dy, shape, 0)
    for found, expected in (
        (by(cut, x, dy), exact(x, dy, shape, r)),
        (by(replace(cut, r=1, thin=True), x, dy), of_largest),
        (by(replace(cut, r=1), x, dy, fetch=True), of_largest),
    ):
        assert np.abs(found - expected).max() <= 3e-6 * max(np.abs(expected).max(), 1e-3)


def test_blocks_that_do_not_fit_are_refused():
    shape = shape_of(2, 7, 8, 16, 16, 3, 1, "SAME")
    with pytest.raises(ValueError, match=r"`r` \(=2\) .* 7×8"):
        native.wgrad(*map(jnp.asarray, arrays(shape)), shape, r=2)


def test_long_sums_keep_their_digits():
    shape = shape_of(128, 32, 32, 4, 16, 3, 1, "SAME")
    x, dy = arrays(shape)
    expected = exact(np.abs(x), dy, shape)
    found = np.asarray(native.wgrad(jnp.abs(x), jnp.asarray(dy), shape))
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


def test_a_nan_reaches_its_channel_and_no_other():
    shape = shape_of(3, 6, 6, 16, 16, 3, 1, "SAME")
    x, dy = arrays(shape)
    dy[1, 2, 3, 5] = np.nan
    found = np.asarray(native.wgrad(jnp.asarray(x), jnp.asarray(dy), shape))
    assert np.isnan(found[..., 5]).all()
    assert np.isfinite(np.delete(found, 5, axis=-1)).all()
    found = np.asarray(native.largest_entries(jnp.asarray(x), jnp.asarray(dy), shape, fetch=True))
    assert np.isnan(found[1, 1, :, 5]).all()  # the tap that lies within the image wherever the entry is
    assert np.isfinite(np.delete(found, 5, axis=-1)).all()


def test_it_runs_in_loops_branches_and_batches():
    shape = shape_of(3, 6, 6, 8, 16, 3, 1, "SAME")
    x, dy = arrays(shape)
    wgrad = partial(dense.wgrad, shape=shape)
    expected = np.asarray(canonical.wgrad(jnp.asarray(x), jnp.asarray(dy), shape))
    xs = jnp.stack([x, 2 * x])

    def branch(carry, x):
        return carry, lax.switch(carry, [lambda x: wgrad(x, dy), lambda x: 0 * wgrad(x, dy)], x)

    in_loop = jax.jit(lambda xs: lax.scan(branch, jnp.int32(0), xs)[1])(xs)
    batched = jax.jit(jax.vmap(lambda x: wgrad(x, dy)))(xs)
    for found in (in_loop, batched):
        np.testing.assert_allclose(found, [expected, 2 * expected], rtol=1e-5, atol=1e-5)


def test_many_at_once_neither_wait_for_each_other_nor_differ():
    """More callers than threads, each of which leaves tasks behind that may begin when its call is over."""
    shape = shape_of(16, 8, 8, 16, 16, 3, 1, "SAME")
    x, dy = arrays(shape)
    several = jax.jit(lambda x, dy: [native.wgrad(x * number, dy, shape) for number in range(1, 13)])
    first = [np.asarray(one) for one in several(x, dy)]
    found: list[list[np.ndarray]] = []
    callers = [
        threading.Thread(target=lambda: found.extend([np.asarray(one) for one in several(x, dy)] for _ in range(15)))
        for _ in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
        assert not caller.is_alive()
    assert len(found) == 90
    for run in found:
        for one, same in zip(run, first, strict=True):
            np.testing.assert_array_equal(one, same)


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
        (8, 1, None, "entries"),
        (2, 1, None, "thin"),
        (8, 2, None, None),
        (8, 1, "xla", None),
    ):
        shape = shape_of(4, side, side, 16, 16, 3, 1, "SAME")
        x, dy = arrays(shape)
        method = partial(weight_gradient, kernel_size=(3, 3), method="approx", k=k, implementation=implementation)
        program = jax.jit(method).lower(x, dy).compile()
        assert re.findall(r'custom_call_target="approxtrain_([a-z]+)_', program.as_text()) == [rule] * bool(rule)
        expected = Approx(k).oracle(x, dy, shape)
        assert np.abs(np.asarray(program(x, dy)) - expected).max() <= 2e-6 * np.abs(expected).max()


def test_a_cpu_program_holds_the_call_and_a_gpu_program_does_not():
    shape = shape_of(2, 6, 6, 8, 16, 3, 1, "SAME")
    traced = jax.jit(partial(dense.wgrad, shape=shape)).trace(*arrays(shape))
    assert "approxtrain_wgrad_2_6_6_8_16_3_3" in traced.lower(lowering_platforms=("cpu",)).as_text()
    gpu = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "approxtrain_wgrad" not in gpu
    assert "stablehlo.convolution" in gpu
