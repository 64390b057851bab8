"""Code of our own in jax programs: in loops, branches and batches, from many threads, and only where a CPU runs it."""

from __future__ import annotations

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from approxtrain_kernels import canonical, conv, conv_shape, dense, native, weight_gradient
from approxtrain_kernels.native import ffi

pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")

KINDS = ("forward", "dgrad", "wgrad")


def operands(shape, kind, seed=0):
    """The two operands of forward, dgrad or wgrad."""
    sizes = {"forward": (shape.x_shape, shape.w_shape), "dgrad": (shape.y_shape, shape.w_shape)}
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size, np.float32) for size in sizes.get(kind, (shape.x_shape, shape.y_shape))]


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_in_loops_branches_and_batches(kind):
    shape = conv_shape((3, 6, 6, 8), 16, (3, 3))
    a, b = operands(shape, kind)
    run = partial(getattr(dense, kind), shape=shape)
    expected = np.asarray(getattr(canonical, kind)(jnp.asarray(a), jnp.asarray(b), shape))
    several = jnp.stack([a, 2 * a])

    def branch(carry, a):
        return carry, lax.switch(carry, [lambda a: run(a, b), lambda a: 0 * run(a, b)], a)

    in_loop = jax.jit(lambda several: lax.scan(branch, jnp.int32(0), several)[1])(several)
    batched = jax.jit(jax.vmap(lambda a: run(a, b)))(several)
    for result in (in_loop, batched):
        np.testing.assert_allclose(result, [expected, 2 * expected], rtol=1e-5, atol=1e-5)


def test_calls_from_many_threads_neither_wait_for_each_other_nor_differ():
    """More callers than threads, each of which leaves tasks behind that may begin when its call is over."""
    shape = conv_shape((16, 8, 8, 16), 16, (3, 3))
    x, dy = operands(shape, "wgrad")
    several = jax.jit(lambda x, dy: [native.wgrad(x * factor, dy, shape) for factor in range(1, 13)])
    first = [np.asarray(dw) for dw in several(x, dy)]
    runs: list[list[np.ndarray]] = []
    callers = [
        threading.Thread(target=lambda: runs.extend([np.asarray(dw) for dw in several(x, dy)] for _ in range(15)))
        for _ in range(6)
    ]
    join(callers)
    assert len(runs) == 90
    for run in runs:
        jax.tree.map(np.testing.assert_array_equal, run, first)


def join(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_calls_of_one_program_neither_wait_for_each_other_nor_differ():
    """Independent calls run side by side on one pool of threads; twice the same bits."""
    shape = conv_shape((32, 9, 8, 5), 7, (3, 3))
    (x, w), (dy, _) = operands(shape, "forward"), operands(shape, "dgrad")

    @jax.jit
    def several(xs):
        ys = [native.forward(x, w, shape) for x in xs]
        return [native.wgrad(x, y + dy, shape) for x, y in zip(xs, ys, strict=True)]

    xs = [x * factor for factor in range(12)]
    runs = [several(xs) for _ in range(20)]
    for run in runs[1:]:
        jax.tree.map(np.testing.assert_array_equal, run, runs[0])


@pytest.fixture
def compiled(monkeypatch):
    """The names of the kernels that are compiled from here on."""
    names: list[str] = []
    register = ffi.register

    def noted(name, kernel):
        names.append(name)
        register(name, kernel)

    monkeypatch.setattr(ffi, "register", noted)
    monkeypatch.setattr(ffi, "_registered", set())  # an empty one, so that nothing is known from other tests
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: None)
    return names


def test_threads_that_compile_at_once_compile_each_kernel_once(compiled):
    shapes = [conv_shape((2, 6, 6, channels), 8, (3, 3)) for channels in (3, 4)]
    programs: list[jax.stages.Lowered] = []

    def lower():
        runs = [(jax.jit(partial(native.forward, shape=shape)), operands(shape, "forward")) for shape in shapes]
        programs.extend(run.lower(*arrays) for run, arrays in runs)

    join([threading.Thread(target=lower) for _ in range(4)])
    assert len(programs) == 8
    assert len(compiled) == len(set(compiled)) == 2


PROGRAMS = {
    **{kind: (lambda a, b, shape, kind=kind: getattr(dense, kind)(a, b, shape), kind) for kind in KINDS},
    "pooled": (lambda x, dy, _: weight_gradient(x, dy, kernel_size=(3, 3), method="pooled", r=2), "wgrad"),
    "approx": (lambda x, dy, _: weight_gradient(x, dy, kernel_size=(3, 3), method="approx"), "wgrad"),
    "gradients": (lambda x, w, _: jax.grad(lambda x, w: conv(x, w).sum(), (0, 1))(x, w), "forward"),
}
CALLS = {"pooled": ["wgrad"], "approx": ["topk_wgrad"], "gradients": ["dgrad", "wgrad"]}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gpus_program_has_no_call_and_compiles_nothing_and_a_cpus_compiles_when_it_is_lowered(name, compiled):
    run, kind = PROGRAMS[name]
    shape = conv_shape((2, 8, 8, 8), 16, (3, 3))
    program, arrays = jax.jit(lambda a, b: run(a, b, shape)), operands(shape, kind)
    gpu = jax.sharding.AbstractDevice("NVIDIA H200", 132, "cuda")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=gpu)):
        text = program.trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert "_2_8_8_8_16_" not in text
    assert "stablehlo.convolution" in text or name == "approx"  # which has a kernel for GPUs
    assert compiled == []
    text = program.trace(*arrays).lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" not in text
    assert sorted(target.split("_2_8_8_")[0] for target in compiled) == [
        f"approxtrain_{call}" for call in CALLS.get(name, [name])
    ]
    for target in compiled:
        assert f"@{target}(" in text


def test_tracing_compiles_nothing_and_a_second_lowering_compiles_nothing_more(compiled):
    shape = conv_shape((2, 8, 8, 8), 16, (3, 3))
    arrays = operands(shape, "forward")
    jax.make_jaxpr(partial(dense.forward, shape=shape))(*arrays)
    jax.eval_shape(partial(dense.forward, shape=shape), *arrays)
    assert compiled == []
    for _ in range(2):
        jax.jit(lambda x, w: dense.forward(x, w, shape)).lower(*arrays)
    assert len(compiled) == 1
