"""What jax makes of our own convolutions: derivatives of every order, batches, threads' and processes' ways to them."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from approxtrain_kernels import canonical, conv, conv_shape, dense, native

pytestmark = [
    pytest.mark.gate,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]

ROOT = Path(__file__).parents[2]
SHAPE = conv_shape((4, 7, 6, 5), 8, (3, 3), (2, 1))
rng = np.random.default_rng(0)
X, W, DY = (rng.standard_normal(size, np.float32) / 5 for size in (SHAPE.x_shape, SHAPE.w_shape, SHAPE.y_shape))


def ours(x, w):
    return dense.forward(x, w, SHAPE)


def seam(x, w):
    return conv(x, w, strides=SHAPE.strides, padding=SHAPE.padding, method="full")


def xla(x, w):
    order = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, SHAPE.strides, SHAPE.padding, dimension_numbers=order)


def loss(run):
    return lambda x, w: jnp.sum(jnp.sin(run(x, w)) * DY.astype(x.dtype))


def second(run):
    """A number that depends on both gradients, and so its gradients on all second derivatives."""
    return lambda x, w: sum(jnp.sum(jnp.cos(g) * g) for g in jax.grad(loss(run), (0, 1))(x, w))


def third(run):
    return lambda x, w: sum(jnp.sum(jnp.sin(g)) for g in jax.grad(second(run), (0, 1))(x, w))


def per_channel(run, x):
    return lambda w: run(x, w).sum((0, 1, 2))


DERIVATIVES = {
    "grad": lambda run: jax.grad(loss(run), (0, 1)),
    "grad of grad": lambda run: jax.grad(second(run), (0, 1)),
    "jvp of grad": lambda run: lambda x, w: jax.jvp(jax.grad(loss(run), (0, 1)), (x, w), (w.sum() + x, 2 * w)),
    "checkpoint": lambda run: jax.grad(jax.checkpoint(loss(run)), (0, 1)),
    "jacrev": lambda run: lambda x, w: jax.jacrev(per_channel(run, x))(w),
    "vmap of x": lambda run: lambda x, w: jax.vmap(run, (0, None))(jnp.stack([x, 2 * x]), w),
    "vmap of w": lambda run: lambda x, w: jax.vmap(run, (None, 3))(x, jnp.stack([w, 2 * w], 3)),
    "vmap of both": lambda run: lambda x, w: jax.vmap(run, (1, 0), 2)(jnp.stack([x, x + 1], 1), jnp.stack([w, 2 * w])),
    "grad of vmap": lambda run: jax.grad(
        lambda x, w: jnp.sin(jax.vmap(run, (None, 0))(x, jnp.stack([w, 2 * w]))).sum(), (0, 1)
    ),
    "vmap of grad": lambda run: lambda x, w: jax.vmap(jax.grad(loss(run), (0, 1)), (None, 0))(x, jnp.stack([w, 2 * w])),
}
FORWARD = {
    "jvp": lambda run: lambda x, w: jax.jvp(run, (x, w), (2 * x, w + 1)),
    "linearize": lambda run: lambda x, w: jax.linearize(run, x, w)[1](2 * x, w + 1),
    "jacfwd": lambda run: lambda x, w: jax.jacfwd(per_channel(run, x))(w),
}


def agrees(derivative, run):
    with jax.enable_x64(True):
        expected = jax.tree.map(np.asarray, jax.jit(derivative(xla))(X.astype(np.float64), W.astype(np.float64)))
    results = jax.jit(derivative(run))(X, W)
    for result, exact in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, exact, rtol=0, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("name", [*DERIVATIVES, *FORWARD])
def test_derivatives_are_those_of_xlas_convolution_in_float64(name):
    agrees({**DERIVATIVES, **FORWARD}[name], ours)


@pytest.mark.long
def test_third_derivatives_are_too():
    agrees(lambda run: jax.grad(third(run), (0, 1)), ours)


@pytest.mark.parametrize("name", ["grad of grad", "jvp of grad", "vmap of grad", "checkpoint"])
def test_so_are_those_of_conv_with_the_method_full(name):
    agrees(DERIVATIVES[name], seam)


def test_second_derivatives_need_no_jit():
    gradients = jax.grad(second(ours), (0, 1))
    for result, expected in zip(gradients(X, W), jax.jit(gradients)(X, W), strict=True):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["dgrad", "wgrad"])
def test_the_gradients_are_bilinear_maps_with_derivatives_of_their_own(kind):
    run, arrays = getattr(dense, kind), {"dgrad": (DY, W), "wgrad": (X, DY)}[kind]
    arrays = [jnp.asarray(a) for a in arrays]
    by_ours = jax.grad(lambda a, b: jnp.sum(jnp.sin(run(a, b, SHAPE))), (0, 1))(*arrays)
    by_xla = jax.grad(lambda a, b: jnp.sum(jnp.sin(getattr(canonical, kind)(a, b, SHAPE))), (0, 1))(*arrays)
    for result, expected in zip(by_ours, by_xla, strict=True):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_an_approximated_weight_gradient_by_our_own_code_refuses_to_be_differentiated():
    shape = conv_shape((2, 8, 8, 8), 16, (3, 3))
    for run in (partial(native.topk_wgrad, shape=shape, gather=True), partial(native.wgrad, shape=shape, r=2)):
        with pytest.raises(NotImplementedError, match=r"kernel `\w+` has no derivative"):
            jax.grad(lambda x, run=run: run(x, jnp.ones(shape.y_shape)).sum())(jnp.ones(shape.x_shape))


def test_it_runs_without_jit():
    with jax.disable_jit():
        np.testing.assert_allclose(ours(jnp.asarray(X), jnp.asarray(W)), xla(X, W), rtol=1e-5, atol=1e-5)


IN_A_FORK = """
import os, signal
import jax, jax.numpy as jnp, numpy as np
from approxtrain_kernels import conv

x, w = jnp.ones((64, 8, 8, 16)), jnp.ones((3, 3, 16, 32))
known = jax.jit(conv)
before = np.asarray(known(x, w))
child = os.fork()
if child == 0:
    signal.alarm(60)
    assert np.array_equal(known(x, w), before)
    try:
        jax.jit(lambda x, w: conv(x, w) + 1)(x, w)
    except RuntimeError as error:
        os._exit(7 if "forked" in str(error) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_runs_the_programs_that_there_are_and_is_refused_a_new_one():
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    command = [sys.executable, "-W", "ignore", "-c", IN_A_FORK]  # jax warns of the fork
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "7"
