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
_registered: dict[tuple[ConvShape, int], tuple[str, int]] = {}


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
    name, numbers = _target(shape, r)
    results = (jax.ShapeDtypeStruct(shape.w_shape, jnp.float32), jax.ShapeDtypeStruct((numbers,), jnp.float32))
    dw, _ = jax.ffi.ffi_call(name, results, vmap_method="sequential")(x, dy)
    return dw


def largest_entries(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    """dw of dy with all but the largest entry of each plane set to 0, which carries the sum of its plane."""
    name, numbers = _target(shape, 0)
    kh, kw, ci, co = shape.w_shape
    results = (jax.ShapeDtypeStruct((co, kh, kw, ci), jnp.float32), jax.ShapeDtypeStruct((numbers,), jnp.float32))
    dw, _ = jax.ffi.ffi_call(name, results, vmap_method="sequential")(x, dy)
    return dw.transpose(1, 2, 3, 0)


def _target(shape: ConvShape, r: int) -> tuple[str, int]:
    """The name that this shape's code is registered by, and the numbers of its workspace; r = 0: `largest_entries`."""
    with _lock:
        if (shape, r) not in _registered:
            cut = Cut(shape, len(os.sched_getaffinity(0)), engine.lanes() or 0, max(r, 1))
            code, numbers = (
                (generate.module(cut), cut.workspace) if r else (entries.module(cut), entries.workspace(cut))
            )
            sizes = (*shape.x_shape, shape.out_channels, *shape.kernel_size, *shape.strides, *sum(shape.padding, ()), r)
            name = f"approxtrain_{'wgrad' if r else 'entries'}_{'_'.join(map(str, sizes))}_{cut.parts}"
            engine.register(name, str(code), cut.parts)
            _registered[shape, r] = name, numbers
        return _registered[shape, r]
