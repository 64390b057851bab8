"""Weight gradients on a CPU by code of our own, compiled by LLVM for the shape and the processor (float32).

oneDNN is reachable through jaxlib by its forward convolution alone, and a weight gradient in that form would have to
turn x and dO first. Here nothing is turned (`generate`), and the threads are those of XLA (`entry.ll`).
`APPROXTRAIN_NATIVE=0` turns it off; without it a weight gradient is XLA's own, and several times as slow.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from threading import Lock

import jax
import jax.numpy as jnp

from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.native import engine, entries, generate
from approxtrain_kernels.native.cut import Cut

_lock = Lock()
_registered: dict[tuple[str, ConvShape, int], tuple[str, int]] = {}


@cache
def available() -> bool:
    """Whether this process can make such code: Linux, x86 with AVX2 or AVX-512, and XLA's interface as we know it."""
    if os.environ.get("APPROXTRAIN_NATIVE") == "0" or platform.system() != "Linux":
        return False
    return engine.lanes() is not None and engine.interface() is not None


def computes(shape: ConvShape, dtype) -> bool:
    """Whether this wgrad is one of those that are written here: float32, and something to compute."""
    return available() and dtype == jnp.float32 and shape.macs > 0


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, r: int = 1) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x `[N, H, W, Ci]` and dy `[N, Ho, Wo, Co]`, in float32, on a CPU.

    With r > 1: of dy with each block of r×r replaced by its mean. ValueError where r does not divide Ho and Wo.
    """
    _, ho, wo, _ = shape.y_shape
    if ho % r or wo % r:
        raise ValueError(f"`r` (={r}) must divide the rows and columns of dO, which are {ho}×{wo}.")
    return _call("wgrad", x, dy, shape, shape.w_shape, r)


def largest_entries(x: jax.Array, dy: jax.Array, shape: ConvShape, *, fetch: bool) -> jax.Array:
    """dw of dy with all but the largest entry of each plane set to 0, which carries the sum of its plane.

    By fetching the patches of x that those entries saw (`entries`), or by the dense sum of what is left.
    """
    if not fetch:
        return _call("thin", x, dy, shape, shape.w_shape)
    kh, kw, ci, co = shape.w_shape
    return _call("entries", x, dy, shape, (co, kh, kw, ci)).transpose(1, 2, 3, 0)


def _call(rule: str, x: jax.Array, dy: jax.Array, shape: ConvShape, result: tuple[int, ...], r: int = 1) -> jax.Array:
    name, numbers = _target(rule, shape, r)
    results = (jax.ShapeDtypeStruct(result, jnp.float32), jax.ShapeDtypeStruct((numbers,), jnp.float32))
    return jax.ffi.ffi_call(name, results, vmap_method="sequential")(x, dy)[0]


def _target(rule: str, shape: ConvShape, r: int) -> tuple[str, int]:
    """The name that this shape's code is registered by, and the numbers of its workspace."""
    with _lock:
        if (rule, shape, r) not in _registered:
            cut = Cut(shape, len(os.sched_getaffinity(0)), engine.lanes() or 0, r, rule == "thin")
            fetch = rule == "entries"
            code, numbers = (
                (entries.module(cut), entries.workspace(cut)) if fetch else (generate.module(cut), cut.workspace)
            )
            sizes = (*shape.x_shape, shape.out_channels, *shape.kernel_size, *shape.strides, *sum(shape.padding, ()), r)
            name = f"approxtrain_{rule}_{'_'.join(map(str, sizes))}_{cut.parts}"
            engine.register(name, str(code), cut.parts)
            _registered[rule, shape, r] = name, numbers
        return _registered[rule, shape, r]
