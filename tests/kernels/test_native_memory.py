"""Our own code between pages that nobody may touch: what it reads or writes outside of its arrays ends the process.

Every operand, result and workspace lies in pages of its own, between two that are protected: once flush to the page
behind it, once flush to the page before it. What is left of its pages holds NaN, as results and workspaces do before
the call, and is compared afterwards. The cases run in a process of their own, so that its end is a failed test:

    python tests/kernels/test_native_memory.py SEED CASES
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.methods.pooled import Pooled
from approxtrain_kernels.native import ffi, header
from approxtrain_kernels.native.conv import Conv
from approxtrain_kernels.native.topk_wgrad import TopkWgrad
from approxtrain_kernels.native.wgrad import Wgrad

pytestmark = [
    pytest.mark.gate,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
PAGE = mmap.PAGESIZE
KINDS = ("forward", "dgrad", "wgrad", "pooled", "scatter_top1", "topk_wgrad")
SCHEDULE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """float32 numbers in pages of their own between two protected ones, at the pages' end or at their beginning."""

    def __init__(self, size: tuple[int, ...], at_the_end: bool) -> None:
        count = int(np.prod(size))
        pages = -(-4 * count // PAGE) * PAGE
        self._memory = mmap.mmap(-1, pages + 2 * PAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        between = np.frombuffer(self._memory, np.float32)[PAGE // 4 : (PAGE + pages) // 4]
        between[:] = np.nan
        start = pages // 4 - count if at_the_end else 0
        self.array = between[start : start + count].reshape(size)
        self.rest = between[:start] if at_the_end else between[count:]
        self.address = first + PAGE + 4 * start
        for guard in (first, first + PAGE + pages):
            assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0) == 0, os.strerror(ctypes.get_errno())


def call(handler, operands: list[Guarded], results: list[Guarded]) -> None:
    """As XLA calls it, with a pool of threads that takes no task."""
    known = header.interface()
    api = (ctypes.c_int64 * 64)(known["API_SIZE"])
    functions = {"THREADPOOL_SCHEDULE": SCHEDULE(lambda _: 1), "ERROR_DESTROY": DESTROY(lambda _: None)}
    for name, function in functions.items():
        api[known[name] // 8] = ctypes.cast(function, ctypes.c_void_p).value or 0
    buffers = [(ctypes.c_int64 * 6)(48, 0, 11, each.address) for each in (*operands, *results)]
    pointers = [*map(ctypes.addressof, buffers)]
    listed = [(ctypes.c_void_p * 2)(*pair) for pair in (pointers[:2], pointers[2:])]
    lists = [[40, 0, 2, 0, ctypes.addressof(each)] for each in listed]
    frame = (ctypes.c_int64 * 24)(168, 0, ctypes.addressof(api), 0, 3, *lists[0], *lists[1])
    assert handler(ctypes.addressof(frame)) is None


def exact_conv(a, w, shape, backward: bool):
    """Forward or dgrad in float64: each tap joins a grid of pixels of x to all of y."""
    (kh, kw), (sh, sw), ((top, bottom), (left, right)) = shape.kernel_size, shape.strides, shape.padding
    n, ho, wo, co = shape.y_shape
    bordered = np.zeros((n, shape.height + top + bottom, shape.width + left + right, shape.in_channels))
    inside = bordered[:, top : top + shape.height, left : left + shape.width]
    y = np.zeros((n, ho, wo, co))
    if not backward:
        inside[...] = a
    for i in range(kh):
        for j in range(kw):
            seen = bordered[:, i : i + (ho - 1) * sh + 1 : sh, j : j + (wo - 1) * sw + 1 : sw]
            if backward:
                seen += a @ w[i, j].T
            else:
                y += seen @ w[i, j]
    return inside if backward else y


def exact(kernel, kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if kind in ("forward", "dgrad"):
        return exact_conv(a, b, kernel.shape, kind == "dgrad")
    method = {"wgrad": Full(), "pooled": Pooled(getattr(kernel, "r", 1))}.get(kind, Approx())
    dw = method.oracle(a, b, kernel.shape)
    return dw.transpose(3, 0, 1, 2) if kind == "topk_wgrad" else dw


def drawn(draw: random.Random, kind: str):
    """A kernel for some small layer."""
    while True:
        channels = [draw.choice((1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 64, 100)) for _ in range(2)]
        size = (draw.randint(1, 5), draw.randint(1, 11), draw.randint(1, 11), channels[0])
        taps, strides = [(draw.randint(1, 5), draw.randint(1, 5)), (draw.randint(1, 3), draw.randint(1, 3))]
        padding = draw.choice(("SAME", "VALID", [[draw.randint(0, 4) for _ in range(2)] for _ in range(2)]))
        threads, lanes = draw.randint(1, 6), draw.choice((8, ffi.lanes() or 8))
        r = draw.choice((2, 3)) if kind == "pooled" else 1
        try:
            shape = conv_shape(size, channels[1], taps, strides, padding)
        except ValueError:
            continue  # the kernel does not fit
        if shape.y_shape[1] % r == 0 == shape.y_shape[2] % r:
            break
    if kind in ("forward", "dgrad"):
        return Conv(shape, threads, lanes, kind == "dgrad")
    if kind == "topk_wgrad":
        return TopkWgrad(shape, threads, lanes)
    return Wgrad(shape, threads, lanes, r, kind == "scatter_top1")


def run(seed: int, cases: int) -> None:
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    for case in range(cases):
        kind = KINDS[case % len(KINDS)]
        kernel = drawn(draw, kind)
        os.write(1, f"{case} {kind} {kernel}\n".encode())  # at once: it is the last that is heard of a bad case
        handler = ffi.handler(kernel)
        for at_the_end in (True, False):
            operands = [Guarded(size, at_the_end) for size in kernel.operands.values()]
            for operand in operands:
                operand.array[:] = numbers.standard_normal(operand.array.shape)
            results = [Guarded(size, at_the_end) for size in (kernel.result, (kernel.workspace,))]
            before = [operand.array.copy() for operand in operands]
            call(handler, operands, results)
            expected = exact(kernel, kind, *before)
            error = np.abs(results[0].array - expected).max()
            assert error <= 5e-6 * max(np.abs(expected).max(), 1e-3), f"off by {error}"
            for operand, copy in zip(operands, before, strict=True):
                assert np.array_equal(operand.array, copy), "an operand was written to"
            assert all(np.isnan(each.rest).all() for each in (*operands, *results)), "written beside an array"


def in_a_process_of_its_own(*arguments: int) -> list[str]:
    """The cases that ran."""
    command, environment = [sys.executable, __file__, *map(str, arguments)], {**os.environ, "PYTHONPATH": PATHS}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000)
    cases = done.stdout.splitlines()
    assert done.returncode == 0, f"exit {done.returncode} in {cases[-1:]}\n{done.stderr}"
    return cases


def test_nothing_outside_of_the_arrays_is_touched():
    cases = in_a_process_of_its_own(0, 24)
    assert len(cases) == 24
    assert {case.split()[1] for case in cases} == set(KINDS)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_outside_of_the_arrays_is_touched_in_300_cases():
    assert len(in_a_process_of_its_own(1, 300)) == 300


TOUCH = """
import ctypes, runpy
guarded = runpy.run_path({path!r})["Guarded"]((3,), {at_the_end})
ctypes.c_float.from_address(guarded.address + {inside}).value
print("inside", flush=True)
ctypes.c_float.from_address(guarded.address + {outside}).value
"""


@pytest.mark.parametrize(("at_the_end", "inside", "outside"), [(True, 8, 12), (False, 0, -4)])
def test_a_touch_of_the_page_beside_an_array_ends_the_process(at_the_end, inside, outside):
    code = TOUCH.format(path=__file__, at_the_end=at_the_end, inside=inside, outside=outside)
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": PATHS}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("inside\n", -signal.SIGSEGV)


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
