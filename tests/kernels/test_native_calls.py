"""The entry of our own code, called as XLA calls it: by a pool that refuses tasks, runs them at once, late or side by
side. And what Python refuses before it comes to that.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.native import engine, generate
from approxtrain_kernels.native.cut import Cut

pytestmark = [
    pytest.mark.both,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]

SHAPE = conv_shape((64, 6, 6, 8), 16, (3, 3))
PARTS = 4
SCHEDULE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p * 5))
DESTROY = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p * 3))
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
ERROR = 0xBAD


class Pool:
    """XLA's thread pool as the interface has it: a list of functions, of which two are called."""

    def __init__(self, take: Callable[[Callable[[], None]], bool]) -> None:
        self.given, self.destroyed = 0, []
        known = engine.interface()
        assert known is not None
        functions = (ctypes.c_void_p * 64)()
        self._kept = [functions, SCHEDULE(partial(self._schedule, take)), DESTROY(self._destroy)]
        for name, function in zip(("SCHEDULE", "DESTROY"), self._kept[1:], strict=True):
            functions[known[name] // 8] = ctypes.cast(function, ctypes.c_void_p).value
        self.address = ctypes.addressof(functions)

    def _schedule(self, take, arguments):
        self.given += 1
        _, _, _, task, data = arguments[0]
        return None if take(partial(TASK(task), data)) else ERROR

    def _destroy(self, arguments):
        self.destroyed.append(arguments[0][2])


@pytest.fixture(scope="module")
def handler() -> Callable[[int], int | None]:
    """What is registered with XLA for the weight gradient of SHAPE."""
    caught = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.ffi, "pycapsule", caught.append)
        patch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: None)
        cut = Cut(SHAPE, PARTS, engine.lanes() or 0)
        assert cut.parts == PARTS
        engine.register("caught", str(generate.module(cut)), PARTS)
    return caught[0]


class Call:
    """One call of the handler. The arrays live as long as it; dw and the workspace hold NaN before."""

    def __init__(self, handler, pool: Pool) -> None:
        rng = np.random.default_rng(0)
        x, dy = (rng.standard_normal(size, np.float32) for size in (SHAPE.x_shape, SHAPE.y_shape))
        dw = np.full(SHAPE.w_shape, np.nan, np.float32)
        workspace = np.full(Cut(SHAPE, PARTS, engine.lanes() or 0).workspace, np.nan, np.float32)
        self.arrays = (x, dy, dw, workspace)
        buffers = [(ctypes.c_int64 * 6)(48, 0, 11, array.ctypes.data) for array in self.arrays]
        operands, results = ((ctypes.c_void_p * 2)(*map(ctypes.addressof, pair)) for pair in (buffers[:2], buffers[2:]))
        lists = [[40, 0, 2, 0, ctypes.addressof(each)] for each in (operands, results)]
        frame = (ctypes.c_int64 * 24)(0, 0, pool.address, 0, 0, *lists[0], *lists[1])
        assert handler(ctypes.addressof(frame)) is None

    @property
    def right(self) -> bool:
        x, dy, dw, _ = self.arrays
        expected = Full().oracle(x.astype(np.float64), dy.astype(np.float64), SHAPE)
        return bool(np.abs(dw - expected).max() <= 2e-6 * np.abs(expected).max())


def test_a_pool_that_refuses_costs_speed_and_its_error_is_given_back(handler):
    pool = Pool(lambda task: False)
    assert Call(handler, pool).right
    assert (pool.given, pool.destroyed) == (1, [ERROR])  # after one refusal it asks no more


def test_a_pool_that_runs_each_task_at_once(handler):
    pool = Pool(lambda task: task() is None)
    assert Call(handler, pool).right
    assert (pool.given, pool.destroyed) == (PARTS - 1, [])


def test_a_task_that_begins_when_the_call_is_over_touches_nothing_of_it(handler):
    late: list[Callable[[], None]] = []
    pool = Pool(lambda task: late.append(task) is None)
    done = Call(handler, pool)
    assert done.right
    before = [array.copy() for array in done.arrays]
    assert len(late) == PARTS - 1
    for task in late:
        task()
    for array, then in zip(done.arrays, before, strict=True):
        np.testing.assert_array_equal(array, then)


def test_tasks_side_by_side(handler):
    threads: list[threading.Thread] = []

    def take(task: Callable[[], None]) -> bool:
        threads.append(threading.Thread(target=task))
        threads[-1].start()
        return True

    for _ in range(50):
        pool = Pool(take)
        assert Call(handler, pool).right
        assert (pool.given, pool.destroyed) == (PARTS - 1, [])
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("name", "operand", "message"),
    [
        ("x", np.zeros((64, 6, 6, 4), np.float32), r"`x` is float32 of \(64, 6, 6, 4\); .* float32 of \(64, 6, 6, 8\)"),
        ("dy", np.zeros(SHAPE.y_shape, jnp.bfloat16), r"`dy` is bfloat16 .* float32 of \(64, 6, 6, 16\)"),
    ],
)
def test_operands_of_another_type_or_shape_are_refused(name, operand, message):
    operands = {"x": jnp.zeros(SHAPE.x_shape), "dy": jnp.zeros(SHAPE.y_shape), name: jnp.asarray(operand)}
    with pytest.raises(ValueError, match=message):
        native.wgrad(**operands, shape=SHAPE)
