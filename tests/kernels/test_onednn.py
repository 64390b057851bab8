"""oneDNN's convolution inside of jaxlib: the same numbers as XLA's, wherever a program may put it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from approxtrain_kernels import canonical, conv_shape, dense, native, onednn

ROOT = Path(__file__).parents[2]
needed = pytest.mark.skipif(not onednn.available(), reason="this jaxlib is not known to have oneDNN's convolution")
PARTS = ("forward", "dgrad")

# H, W, Ci, Co, K, stride, padding
SHAPES = {
    "3x3": (9, 8, 5, 7, 3, 1, "SAME"),
    "3x3 stride 2, odd": (9, 7, 3, 8, 3, 2, "SAME"),
    "3x3 stride 2, even": (8, 8, 4, 8, 3, 2, "SAME"),
    "1x1 stride 2": (8, 8, 4, 4, 1, 2, "SAME"),
    "2x2 stride 3": (9, 9, 4, 4, 2, 3, "VALID"),
    "5x5": (8, 8, 4, 16, 5, 1, "SAME"),
    "5x5 stride 2, valid": (12, 11, 4, 4, 5, 2, "VALID"),
    "explicit padding": (8, 9, 4, 4, 3, 2, ((2, 0), (1, 3))),
    "padding beyond the kernel": (5, 5, 4, 4, 3, 1, ((4, 3), (0, 5))),
    "stride beyond the image": (5, 6, 4, 4, 3, 4, "SAME"),
    "one pixel": (3, 3, 4, 4, 3, 1, "VALID"),
}


def arrays(case, batch=6, seed=0):
    h, w, ci, co, k, stride, padding = case
    shape = conv_shape((batch, h, w, ci), co, (k, k), (stride, stride), padding)
    rng = np.random.default_rng(seed)
    return shape, *(
        jnp.asarray(rng.standard_normal(s), jnp.float32) for s in (shape.x_shape, shape.w_shape, shape.y_shape)
    )


def operands(part, x, w, dy):
    return {"forward": (x, w), "dgrad": (dy, w)}[part]


@needed
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES)
def test_it_computes_what_xla_computes(case, part):
    shape, x, w, dy = arrays(case)
    a, b = operands(part, x, w, dy)
    ours, xla = (np.asarray(jax.jit(partial(getattr(m, part), shape=shape))(a, b)) for m in (onednn, canonical))
    np.testing.assert_allclose(ours, xla, atol=2e-6 * np.abs(xla).max())


@needed
def test_it_runs_in_loops_branches_and_batches():
    shape, x, w, _ = arrays(SHAPES["3x3"])
    forward = partial(dense.forward, shape=shape)
    expected = np.asarray(canonical.forward(x, w, shape))
    xs = jnp.stack([x, 2 * x])

    def branch(carry, x):
        return carry, lax.switch(carry, [lambda x: forward(x, w), lambda x: 0 * forward(x, w)], x)

    in_loop = jax.jit(lambda xs: lax.scan(branch, jnp.int32(0), xs)[1])(xs)
    batched = jax.jit(jax.vmap(lambda x: forward(x, w)))(xs)
    for found in (in_loop, batched):
        np.testing.assert_allclose(found, [expected, 2 * expected], rtol=1e-5, atol=1e-5)


@needed
@pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")
def test_many_at_once_neither_wait_for_each_other_nor_differ():
    """Independent calls run side by side on one pool of threads; twice the same bits."""
    shape, x, w, dy = arrays(SHAPES["3x3"], batch=32)

    @jax.jit
    def several(xs):
        ys = [onednn.forward(x, w, shape) for x in xs]
        return [native.wgrad(x, y + dy, shape) for x, y in zip(xs, ys, strict=True)]

    xs = [x * number for number in range(12)]
    runs = [several(xs) for _ in range(20)]
    for run in runs[1:]:
        jax.tree.map(np.testing.assert_array_equal, run, runs[0])


@needed
def test_a_cpu_program_holds_the_call_and_a_gpu_program_does_not():
    shape, x, w, _ = arrays(SHAPES["3x3"])
    traced = jax.jit(partial(dense.forward, shape=shape)).trace(x, w)
    assert "__onednn$convolution" in traced.lower(lowering_platforms=("cpu",)).as_text()
    gpu = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "onednn" not in gpu
    assert "stablehlo.convolution" in gpu


def test_other_types_are_left_to_xla():
    shape, *_ = arrays(SHAPES["3x3"])
    assert not onednn.computes(shape, jnp.bfloat16)
    assert onednn.computes(shape, jnp.float32) is onednn.available()


def test_it_is_used_only_where_it_was_tested(monkeypatch):
    def on(
        jaxlib="0.10.2", system="Linux", machine="x86_64", variable=None, wheel="Tag: cp311-cp311-manylinux_2_27_x86_64"
    ):
        built = SimpleNamespace(version=jaxlib, read_text={"WHEEL": wheel}.get)
        monkeypatch.setattr(onednn, "distribution", {"jaxlib": built}.get)
        monkeypatch.setattr(onednn.platform, "system", lambda: system)
        monkeypatch.setattr(onednn.platform, "machine", lambda: machine)
        monkeypatch.setenv("APPROXTRAIN_ONEDNN", variable or "")
        return onednn.available.__wrapped__()

    assert on()
    assert on(jaxlib="0.12.0.1")
    assert not on(jaxlib="0.10.3")
    assert not on(jaxlib="0.99")
    assert not on(machine="aarch64")
    assert not on(system="Darwin")
    assert not on(variable="0")
    assert not on(wheel="Tag: cp311-cp311-linux_x86_64")  # built by somebody else
    assert not on(wheel=None)


def test_an_environment_variable_turns_it_off():
    code = "from approxtrain_kernels import onednn; print(onednn.available())"
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    environment = {**os.environ, "PYTHONPATH": paths, "APPROXTRAIN_ONEDNN": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False"
