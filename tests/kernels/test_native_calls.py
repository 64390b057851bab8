"""The entry of our own code, called as XLA calls it: by a pool that refuses tasks, runs them at once, late or side by
side, and with frames of other sizes than it was compiled for. And what Python refuses before it comes to that.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.native import ffi, header
from approxtrain_kernels.native.wgrad import Wgrad

pytestmark = [
    pytest.mark.both,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]

SHAPE = conv_shape((64, 6, 6, 8), 16, (3, 3))
SLICES = 4
KERNEL = Wgrad(SHAPE, SLICES, ffi.lanes() or 8)
SCHEDULE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p * 5))
DESTROY = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p * 3))
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p * 4))
ERROR, LAYOUT_ERROR = 0xBAD, 0xBAD1


class Pool:
    """XLA's thread pool as the interface has it: a list of functions, of which three are called."""

    def __init__(self, take: Callable[[Callable[[], None]], bool]) -> None:
        self.given, self.destroyed, self.messages = 0, [], []
        known = header.interface()
        self.api = (ctypes.c_int64 * 64)(known["API_SIZE"])
        self._kept = {
            "THREADPOOL_SCHEDULE": SCHEDULE(partial(self._schedule, take)),
            "ERROR_DESTROY": DESTROY(self._destroy),
            "ERROR_CREATE": CREATE(self._create),
        }
        for name, function in self._kept.items():
            self.api[known[name] // 8] = ctypes.cast(function, ctypes.c_void_p).value or 0

    def _schedule(self, take, arguments):
        self.given += 1
        _, _, _, task, data = arguments[0]
        return None if take(partial(TASK(task), data)) else ERROR

    def _destroy(self, arguments):
        self.destroyed.append(arguments[0][2])

    def _create(self, arguments):
        self.messages.append(ctypes.string_at(arguments[0][2]).decode())
        return LAYOUT_ERROR


@pytest.fixture(scope="module")
def handler() -> Callable[[int], int | None]:
    """What is registered with XLA for the weight gradient of SHAPE."""
    assert KERNEL.slices == SLICES
    return ffi.handler(KERNEL)


class Call:
    """One call of the handler. The arrays live as long as it; dw and the workspace hold NaN before."""

    def __init__(self, handler, pool: Pool, plant: Callable[[Call], None] = lambda call: None) -> None:
        rng = np.random.default_rng(0)
        x, dy = (rng.standard_normal(size, np.float32) for size in (SHAPE.x_shape, SHAPE.y_shape))
        dw, workspace = (np.full(size, np.nan, np.float32) for size in (SHAPE.w_shape, KERNEL.workspace))
        self.arrays, self.api = (x, dy, dw, workspace), pool.api
        self.buffers = [(ctypes.c_int64 * 6)(48, 0, 11, array.ctypes.data) for array in self.arrays]
        pointers = [*map(ctypes.addressof, self.buffers)]
        operands, results = ((ctypes.c_void_p * 2)(*pair) for pair in (pointers[:2], pointers[2:]))
        lists = [[40, 0, 2, 0, ctypes.addressof(each)] for each in (operands, results)]
        self.frame = (ctypes.c_int64 * 24)(168, 0, ctypes.addressof(pool.api), 0, 3, *lists[0], *lists[1])
        plant(self)
        self.error = handler(ctypes.addressof(self.frame))

    @property
    def right(self) -> bool:
        x, dy, dw, _ = self.arrays
        assert self.error is None
        expected = Full().oracle(x.astype(np.float64), dy.astype(np.float64), SHAPE)
        return bool(np.abs(dw - expected).max() <= 2e-6 * np.abs(expected).max())


def test_a_pool_that_refuses_costs_speed_and_its_error_is_given_back(handler):
    pool = Pool(lambda task: False)
    assert Call(handler, pool).right
    assert (pool.given, pool.destroyed) == (1, [ERROR])  # after one refusal it asks no more


def test_a_pool_that_runs_each_task_at_once(handler):
    pool = Pool(lambda task: task() is None)
    assert Call(handler, pool).right
    assert (pool.given, pool.destroyed) == (SLICES - 1, [])


def test_a_task_that_begins_when_the_call_is_over_touches_nothing_of_it(handler):
    late: list[Callable[[], None]] = []
    pool = Pool(lambda task: late.append(task) is None)
    done = Call(handler, pool)
    assert done.right
    before = [array.copy() for array in done.arrays]
    assert len(late) == SLICES - 1
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
        assert (pool.given, pool.destroyed) == (SLICES - 1, [])
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


OTHER_SIZES = {
    "the frame is longer": lambda call: call.frame.__setitem__(0, 176),
    "the frame is shorter": lambda call: call.frame.__setitem__(0, 160),
    "the functions are more": lambda call: call.api.__setitem__(0, call.api[0] + 8),
    "the list of operands is longer": lambda call: call.frame.__setitem__(5, 48),
    "an operand more": lambda call: call.frame.__setitem__(7, 3),
    "the list of results is shorter": lambda call: call.frame.__setitem__(10, 32),
    "a result less": lambda call: call.frame.__setitem__(12, 1),
    "an operand of another size": lambda call: call.buffers[1].__setitem__(0, 56),
    "a result of another size": lambda call: call.buffers[2].__setitem__(0, 40),
    "an operand in float64": lambda call: call.buffers[0].__setitem__(2, 12),
}


@pytest.mark.parametrize("plant", OTHER_SIZES.values(), ids=OTHER_SIZES)
def test_a_frame_of_another_size_is_an_error_in_words_and_nothing_is_touched(handler, plant):
    pool = Pool(lambda task: False)
    call = Call(handler, pool, plant)
    assert call.error == LAYOUT_ERROR
    assert [message.partition(".")[0] for message in pool.messages] == [
        "approxtrain: XLA calls with a frame that this code was not compiled for"
    ]
    assert "APPROXTRAIN_NATIVE=0" in pool.messages[0]
    assert pool.given == 0
    assert np.isnan(call.arrays[2]).all()
    assert np.isnan(call.arrays[3]).all()


@pytest.mark.parametrize(("size", "major"), [(36, header.MAJOR), (44, -1)])
def test_at_registration_it_names_its_version_or_one_that_is_refused(handler, size, major):
    """XLA asks with an extension of its frame that points to 36 bytes of metadata."""
    about = (ctypes.c_int64 * 6)(size, 24)
    extension = (ctypes.c_int64 * 4)(32, 1, 0, ctypes.addressof(about))
    frame = (ctypes.c_int64 * 24)(168, ctypes.addressof(extension))
    assert handler(ctypes.addressof(frame)) is None
    assert ctypes.c_int32.from_buffer(about, 24).value == major
    assert ctypes.c_int32.from_buffer(about, 28).value == header.interface()["MINOR"]


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


NO_CONVOLUTION = {
    "no image": {"batch": 0},
    "no channel": {"in_channels": 0},
    "no tap": {"kernel_size": (0, 3)},
    "no step": {"strides": (0, 1)},
    "padding that is negative": {"padding": ((-1, 1), (1, 1))},
    "a kernel that is too large": {"kernel_size": (9, 3)},
}


@pytest.mark.parametrize("changes", NO_CONVOLUTION.values(), ids=NO_CONVOLUTION)
@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad", "topk_wgrad"])
def test_a_shape_that_is_no_convolution_is_refused_in_words(kind, changes):
    operands = jnp.zeros((1, 1, 1, 1)), jnp.zeros((1, 1, 1, 1))
    options = {"gather": True} if kind == "topk_wgrad" else {}
    with pytest.raises(ValueError, match=r"is no convolution with something to compute: take one of `conv_shape`"):
        getattr(native, kind)(*operands, replace(SHAPE, **changes), **options)


@pytest.mark.parametrize("r", [-1, 0, True, 2.0])
def test_blocks_of_no_size_are_refused_in_words(r):
    with pytest.raises(ValueError, match="must be a whole number of at least 1: the side of a block"):
        native.wgrad(jnp.zeros(SHAPE.x_shape), jnp.zeros(SHAPE.y_shape), SHAPE, r)
