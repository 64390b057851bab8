"""Every method against an oracle in float64, written from the paper's equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv, conv_shape, sparse, weight_gradient
from approxtrain_kernels.methods import all_methods, make
from approxtrain_kernels.methods.approx import PORTABLE
from tests.kernels.oracles import CASES, block_means, close, dgrad, forward, keep_largest, wgrad
from tests.sampling import latin

EXACT_DGRAD = [name for name, kind in all_methods().items() if kind.exact_dgrad]


def arrays(case, seed=0, dtype=np.float32):
    n, h, w, ci, co, k, stride, padding = case
    shape = conv_shape((n, h, w, ci), co, (k, k), (stride, stride), padding)
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal(shape.x_shape), 0).astype(dtype)
    return (
        shape,
        x,
        rng.standard_normal(shape.y_shape).astype(dtype),
        rng.standard_normal(shape.w_shape).astype(dtype),
    )


def gradient(case, dy_values=None, **method):
    _, x, dy, _ = arrays(case)
    kernel, stride, padding = case[5:]
    static = {"kernel_size": (kernel, kernel), "strides": (stride, stride), "padding": padding, **method}
    dy = dy if dy_values is None else dy_values
    return jax.jit(partial(weight_gradient, **static))(jnp.asarray(x), jnp.asarray(dy))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_full_is_the_exact_weight_gradient(case):
    shape, x, dy, _ = arrays(case)
    close(gradient(case), wgrad(x, dy, shape))


@pytest.mark.parametrize(("name", "implementation", "k"), latin(list(CASES), PORTABLE, [1, 2, 5]))
def test_approx_keeps_the_k_largest_and_their_sum(name, k, implementation):
    case = CASES[name]
    shape, x, dy, _ = arrays(case)
    k = min(k, shape.y_shape[1] * shape.y_shape[2])
    exact = wgrad(x, keep_largest(dy, k), shape)
    close(gradient(case, method="approx", k=k, implementation=implementation), exact)


@pytest.mark.parametrize("form", [sparse.gather, sparse.dense_form])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_both_forms_of_approx_agree_with_the_oracle_at_every_shape(case, form):
    shape, x, dy, _ = arrays(case)
    found = jax.jit(lambda x, dy: form(x, *sparse.select_largest(dy), shape))(x, dy)
    close(found, wgrad(x, keep_largest(dy, 1), shape))


@pytest.mark.parametrize("implementation", PORTABLE)
def test_approx_with_k_of_all_pixels_is_exact(implementation):
    case = CASES["3x3"]
    shape, x, dy, _ = arrays(case)
    close(gradient(case, method="approx", k=30, implementation=implementation), wgrad(x, dy, shape))


@pytest.mark.parametrize("implementation", PORTABLE)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("plane", ["ties", "opposite signs", "zeros", "nan", "inf", "both infinities"])
def test_approx_on_planes_with_a_catch(plane, k, implementation):
    case = CASES["3x3"]
    shape, x, dy, _ = arrays(case)
    dy = dy.copy()
    dy[1, :, :, 1] = {"ties": 0.5, "zeros": 0.0}.get(plane, 0.25)
    if plane == "opposite signs":
        dy[1, 2, 2, 1], dy[1, 3, 3, 1] = 2.0, -2.0
    elif plane == "nan":
        dy[1, 2, 2, 1] = np.nan
    elif plane == "inf":
        dy[1, 2, 2, 1] = np.inf
    elif plane == "both infinities":
        dy[1, 2, 2, 1], dy[1, 3, 3, 1] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        exact = wgrad(x, keep_largest(dy, k), shape)
    close(gradient(case, dy, method="approx", k=k, implementation=implementation), exact)


def test_approx_scale_multiplies_and_paper_means_one_over_batch():
    case = CASES["3x3"]
    plain = gradient(case, method="approx")
    np.testing.assert_allclose(gradient(case, method="approx", scale=0.5), plain * 0.5, rtol=1e-6)
    np.testing.assert_allclose(gradient(case, method="approx", scale="paper"), plain / case[0], rtol=1e-6)


def test_approx_in_bfloat16_sees_the_same_rounded_inputs_as_the_oracle():
    case = (8, 16, 16, 8, 8, 3, 1, "SAME")
    shape, x, dy, _ = arrays(case)
    x, dy = jnp.asarray(x, jnp.bfloat16), jnp.asarray(dy, jnp.bfloat16)
    found = weight_gradient(x, dy, kernel_size=(3, 3), method="approx")
    assert found.dtype == jnp.bfloat16
    close(found, make("approx").oracle(np.asarray(x, np.float32), np.asarray(dy, np.float32), shape), 1e-2)


@pytest.mark.parametrize(("name", "r"), latin(list(CASES), [1, 2, 3, 4, 50]))
def test_pooled_is_the_exact_gradient_of_block_means(name, r):
    case = CASES[name]
    shape, x, dy, _ = arrays(case)
    close(gradient(case, method="pooled", r=r), wgrad(x, block_means(dy, r), shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pooled_hides_no_value_that_is_not_finite(value):
    case = CASES["explicit padding"]
    shape, x, dy, _ = arrays(case)
    dy = dy.copy()
    dy[1, 2, 0, 1] = value
    found = np.asarray(gradient(case, dy, method="pooled"))
    with np.errstate(invalid="ignore"):
        exact = wgrad(x, block_means(dy, 2), shape)
    finite = np.isfinite(exact)
    assert not np.isfinite(found[..., 1]).any()
    np.testing.assert_allclose(found[..., 0], exact[..., 0], atol=1e-5 * np.abs(exact[finite]).max())


@pytest.mark.parametrize("name", ["zero", "skip"])
def test_zero_and_skip_are_zero_gradients(name):
    assert not np.asarray(gradient(CASES["3x3"], method=name)).any()
    assert make(name).updates_weight is (name == "zero")


def test_random_is_normal_with_standard_deviation_one_over_batch():
    x, dy = jnp.zeros((16, 8, 8, 32)), jnp.zeros((16, 8, 8, 64))
    draws = [
        np.asarray(weight_gradient(x, dy, kernel_size=(5, 5), method="random", key=jax.random.key(seed)))
        for seed in (0, 1)
    ]
    count = draws[0].size
    for draw in draws:
        assert abs(draw.mean()) < 5 / 16 / count**0.5
        assert abs(draw.std() * 16 - 1) < 5 / (2 * count) ** 0.5
        shares = [(np.abs(draw) < z / 16).mean() for z in (1, 2)]
        np.testing.assert_allclose(shares, [0.6827, 0.9545], atol=0.01)
    assert abs(np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]) < 5 / count**0.5


@pytest.mark.parametrize(("case_name", "name"), latin(list(CASES), EXACT_DGRAD))
def test_the_input_gradient_is_exact_under_every_method_that_says_so(name, case_name):
    case = CASES[case_name]
    shape, x, dy, w = arrays(case)
    stride, padding = case[6], case[7]

    def loss(x, w):
        y = conv(x, w, strides=(stride, stride), padding=padding, method=name, key=jax.random.key(0))
        return (y * dy).sum(), y

    (_, y), (dx, _) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, w)
    close(y, forward(x, w, shape))
    close(dx, dgrad(dy, w, shape))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", ["full", "approx", "pooled", "zero"])
def test_the_oracle_that_ships_agrees_with_the_wgrad(name, case):
    shape, x, dy, _ = arrays(case)
    thinned = {"full": dy, "approx": keep_largest(dy, 1), "pooled": block_means(dy, 2), "zero": np.zeros(dy.shape)}[
        name
    ]
    exact = wgrad(x, thinned, shape)
    np.testing.assert_allclose(make(name).oracle(x, dy, shape), exact, atol=1e-12)
