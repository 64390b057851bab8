"""Methods that take a part of dO: which part, from the equation; and of those that draw, bias and variance."""

from __future__ import annotations

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv, conv_shape, subsampling, weight_gradient
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.meprop import kth_largest
from approxtrain_kernels.methods.mvue import Mvue
from tests.kernels.oracles import CASES, close, dgrad, wgrad
from tests.sampling import latin

KEY = jax.random.key(7)
DRAWING = [make("grid"), make("grid", s=3), make("rows"), make("rows", m=5), make("mvue"), make("mvue", k=3)]


def arrays(case, seed=0):
    n, h, w, ci, co, k, stride, padding = case
    shape = conv_shape((n, h, w, ci), co, (k, k), (stride, stride), padding)
    rng = np.random.default_rng(seed)
    x, dy, kernel = (
        rng.standard_normal(size).astype(np.float32) for size in (shape.x_shape, shape.y_shape, shape.w_shape)
    )
    return shape, np.maximum(x, 0), dy, kernel, {"kernel_size": (k, k), "strides": (stride, stride), "padding": padding}


def found(method, case, key=KEY):
    _, x, dy, _, static = arrays(case)
    estimate = jax.jit(partial(weight_gradient, method=method, **static))
    return np.asarray(estimate(jnp.asarray(x), jnp.asarray(dy), key=key))


@pytest.mark.parametrize(("name", "method"), latin(list(CASES), DRAWING))
def test_for_each_key_it_is_the_sum_over_what_is_drawn(name, method):
    shape, x, dy, _, _ = arrays(CASES[name])
    for key in (KEY, jax.random.key(8)):
        close(found(method, CASES[name], key), method.oracle(x, dy, shape, key))


@pytest.mark.parametrize(("name", "method"), latin(list(CASES), [make("grid"), make("grid", s=3), make("rows", m=3)]))
def test_over_all_offsets_a_grid_is_exact_in_the_mean_and_its_size_is_that_of_the_formula(name, method, monkeypatch):
    shape, x, dy, _, _ = arrays(CASES[name])
    offsets, sizes, gradients = list(product(*map(range, method.block(shape)))), [], []
    for offset in offsets:
        monkeypatch.setattr(subsampling, "offset", lambda key, block, at=offset: jnp.array(at))
        gradients.append(found(method, CASES[name]).astype(np.float64))
        thinned = np.zeros(dy.shape)
        kept = np.s_[:, offset[0] :: method.block(shape)[0], offset[1] :: method.block(shape)[1]]
        thinned[kept] = len(offsets) * dy[kept]
        sizes.append((thinned**2).sum())
    close(np.mean(gradients, axis=0), wgrad(x, dy, shape))
    assert np.mean(sizes) == pytest.approx(len(offsets) * (dy.astype(np.float64) ** 2).sum())  # E |dO'|² = s² |dO|²


@pytest.mark.parametrize("k", [1, 3])
def test_over_all_draws_mvue_is_exact_in_the_mean_and_a_plane_keeps_its_size(k, monkeypatch):
    """One image, one plane, so that the draws are one number: the mean over 4,000 of them, evenly spread."""
    shape = conv_shape((1, 3, 3, 9), 1, (1, 1))
    dy = np.random.default_rng(0).standard_normal(shape.y_shape).astype(np.float32)
    one = np.eye(9, dtype=np.float32).reshape(shape.x_shape)  # a channel for each entry, so that dW shows dO'
    method = make("mvue", k=k)
    scattered = []
    for u in (np.arange(4000) + 0.5) / 4000:
        monkeypatch.setattr(Mvue, "draws", lambda self, shape, key, u=u: np.full((1, 1, 1), u))
        scattered.append(method.oracle(one, dy, shape).ravel())
    scattered = np.array(scattered)  # dO' of each draw [draws, entries]
    total = np.abs(dy.astype(np.float64)).sum()
    np.testing.assert_allclose(scattered.mean(0), dy.ravel(), atol=2e-3 * total)
    np.testing.assert_allclose(np.abs(scattered).sum(1), total)
    if k == 1:  # Σ dO'² is S² whatever is drawn, so that the variance is S² − Σ dO²
        variance = scattered.var(0).sum()
        assert variance == pytest.approx(total**2 - (dy.astype(np.float64) ** 2).sum(), rel=1e-3)


def test_mvue_draws_anew_for_each_plane_and_adds_up_what_is_drawn_twice():
    shape = conv_shape((8, 4, 4, 1), 8, (1, 1))
    draws = np.asarray(make("mvue").draws(shape, KEY))
    assert len(np.unique(draws)) == 64
    dy = np.zeros(shape.y_shape, np.float32)
    dy[:, 1, 2] = -2.0  # one entry has all: drawn k times
    x = np.random.default_rng(0).standard_normal(shape.x_shape).astype(np.float32)
    for k in (1, 3, 16):
        dw = weight_gradient(jnp.asarray(x), jnp.asarray(dy), kernel_size=(1, 1), method="mvue", k=k, key=KEY)
        close(dw, wgrad(x, dy, shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", [make("mvue"), make("channels", q=0.5), make("meprop")], ids=lambda each: each.name)
def test_what_is_not_finite_is_not_left_out(method, value):
    case = (2, 5, 5, 3, 4, 3, 1, "SAME")
    _, x, dy, _, static = arrays(case)
    dy[1, 2, 3, 2] = value
    dw = np.asarray(weight_gradient(jnp.asarray(x + 1), jnp.asarray(dy), method=method, key=KEY, **static))
    assert not np.isfinite(dw[..., 2]).all()


@pytest.mark.parametrize("method", [make("channels"), make("channels", q=0.5), make("meprop"), make("meprop", q=0.3)])
@pytest.mark.parametrize("name", ["3x3", "explicit padding", "3x3 stride 2, odd"])
def test_both_gradients_are_those_of_the_part_that_is_largest(name, method):
    shape, x, dy, w, static = arrays(CASES[name])
    _, back = jax.vjp(partial(conv, strides=static["strides"], padding=static["padding"], method=method), x, w)
    dx, dw = back(jnp.asarray(dy))
    thinned = dy.astype(np.float64)
    if method.name == "channels":
        size, count = np.abs(thinned).sum((0, 1, 2)), int(np.ceil(round(method.q * shape.out_channels, 9)))
        left_out = np.argsort(size)[: shape.out_channels - count]
        thinned[..., left_out] = 0
    else:
        for image in thinned:
            count = int(np.ceil(round(method.q * image.size, 9)))
            image[np.abs(image) < np.sort(np.abs(image).ravel())[-count]] = 0
            assert np.count_nonzero(image) == count
    close(dw, wgrad(x, thinned, shape))
    close(dx, dgrad(thinned, w, shape))


@pytest.mark.parametrize("odd", [[], [0.0] * 40, [np.inf, np.inf], [np.nan], [1e-42, 3e-45, 3.4e38]], ids=str)
def test_the_kth_largest_is_that_of_a_sorted_row(odd):
    rows = np.abs(np.random.default_rng(3).standard_normal((3, 50))).astype(np.float32)
    rows[0, :20] = rows[0, 20]  # many that are equal
    rows[1, : len(odd)] = odd
    descending = np.sort(rows, axis=1)[:, ::-1]  # a NaN first, as the largest
    for k in (1, 2, 7, 30, 50):
        np.testing.assert_array_equal(kth_largest(jnp.asarray(rows), k), descending[:, k - 1])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("grid", {"s": 0}, "`s` .=0. must be a whole number"),
        ("rows", {"m": 1.5}, "`m` .=1.5. must be a whole number"),
        ("mvue", {"k": True}, "`k` .=True. must be a whole number"),
        ("channels", {"q": 0}, "`q` .=0. must be more than 0 and at most 1"),
        ("meprop", {"q": 1.5}, "`q` .=1.5. must be more than 0 and at most 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name, params, message):
    with pytest.raises(ValueError, match=message):
        make(name, **params)


def test_operations_are_those_of_what_is_kept():
    shape = conv_shape((4, 9, 8, 3), 10, (3, 3))
    assert make("grid").flops(shape) == shape.flops * (5 * 4) / (9 * 8)
    assert make("grid", s=50).flops(shape) == shape.flops / (9 * 8)
    assert make("rows", m=4).flops(shape) == shape.flops * 3 / 9
    assert make("channels", q=0.25).flops(shape) == make("channels", q=0.25).dgrad_flops(shape) == shape.flops * 3 / 10
    assert make("meprop").flops(shape) > shape.flops
    assert make("mvue").flops(shape) < shape.flops / 5


@pytest.mark.parametrize(
    "method",
    [
        make("full"),
        make("approx", implementation="xla"),
        make("approx", k=3),
        make("pooled"),
        make("channels"),
        *DRAWING,
    ],
    ids=lambda method: f"{method.label} {getattr(method, 'implementation', '')}",
)
def test_rows_and_columns_may_differ_in_everything(method):
    shape = conv_shape((2, 9, 8, 3), 4, (3, 2), (1, 2), ((1, 0), (0, 1)))
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(size).astype(np.float32) for size in (shape.x_shape, shape.y_shape))
    static = {"kernel_size": (3, 2), "strides": (1, 2), "padding": shape.padding}
    dw = jax.jit(partial(weight_gradient, method=method, **static))(jnp.asarray(x), jnp.asarray(dy), key=KEY)
    close(dw, method.oracle(x, dy, shape, KEY))
