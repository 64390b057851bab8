"""The convolutions of a CPU by code of our own, compiled by LLVM for the shape and the processor (float32).

XLA's own mostly take longer, inside of loops and branches several times as long (docs/cpu.md). Here forward and dgrad
are one kind of code (`conv`), a weight gradient another (`wgrad`, `topk_wgrad`), which turns neither x nor dO; the
threads are those of XLA (`entry.ll`). Code is compiled when a program that needs it is lowered for a CPU, once in a
process for each shape. `APPROXTRAIN_NATIVE=0` turns it off. docs/native.md says what would let it be deleted.

Operands of another type or shape than said are a ValueError: the code trusts its pointers.
"""

from __future__ import annotations

import os
import platform
from functools import cache

import jax
import jax.numpy as jnp

from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.method import refuse_unless_whole
from approxtrain_kernels.native import ffi, header
from approxtrain_kernels.native.conv import Conv
from approxtrain_kernels.native.kernel import Kernel
from approxtrain_kernels.native.primitive import call
from approxtrain_kernels.native.topk_wgrad import TopkWgrad
from approxtrain_kernels.native.wgrad import Wgrad


@cache
def refusal() -> str | None:
    """Why this process cannot make such code, in words; None where it can."""
    if os.environ.get("APPROXTRAIN_NATIVE") == "0":
        return "APPROXTRAIN_NATIVE=0 turns it off"
    if platform.system() != "Linux":
        return f"it is written for Linux, and this is {platform.system()}"
    if ffi.lanes() is None:
        return "it is written for x86 processors with AVX2 or AVX-512"
    try:
        header.interface()
    except header.UnknownInterface as error:
        return str(error)
    return None


def available() -> bool:
    """Whether this process can make such code: Linux, x86 with AVX2 or AVX-512, and XLA's interface as we know it."""
    return refusal() is None


def described() -> str | None:
    """Which registers such code uses here: "AVX2" or "AVX-512"; None where there is none."""
    return {8: "AVX2", 16: "AVX-512"}[ffi.lanes() or 8] if available() else None


def computes(shape: ConvShape, dtype) -> bool:
    """Whether this convolution is one of those that are written here: float32, and something to compute."""
    return available() and dtype == jnp.float32 and shape.macs > 0


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`, in float32, on a CPU."""
    return call(_here(Conv, shape), x, w)


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]` from dy `[N, Ho, Wo, Co]` and w, in float32, on a CPU."""
    return call(_here(Conv, shape, backward=True), dy, w)


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, r: int = 1) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x `[N, H, W, Ci]` and dy `[N, Ho, Wo, Co]`, in float32, on a CPU.

    With r > 1: of dy with each block of r×r replaced by its mean. ValueError where r does not divide Ho and Wo.
    """
    refuse_unless_whole("r", r, "the side of a block")
    _refuse_unless_a_convolution(shape)
    _, ho, wo, _ = shape.y_shape
    if ho % r or wo % r:
        raise ValueError(f"`r` (={r}) must divide the rows and columns of dO, which are {ho}×{wo}.")
    return call(_here(Wgrad, shape, r=r), x, dy)


def topk_wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, *, gather: bool) -> jax.Array:
    """dw of dy with all but the largest entry of each plane set to 0, which carries the sum of its plane (k = 1).

    With `gather`, by fetching the patches of x that those entries saw; otherwise by the dense sum of what is left.
    """
    if not gather:
        return call(_here(Wgrad, shape, scatter_top1=True), x, dy)
    return call(_here(TopkWgrad, shape), x, dy).transpose(1, 2, 3, 0)


def _here(kernel: type[Kernel], shape: ConvShape, **options) -> Kernel:
    """The kernel for the threads and the registers of this process."""
    _refuse_unless_a_convolution(shape)
    lanes = ffi.lanes()
    if lanes is None:
        raise RuntimeError(f"there is no code of our own for this convolution: {refusal()}")
    return kernel(shape, len(os.sched_getaffinity(0)), lanes, **options)


def _refuse_unless_a_convolution(shape: ConvShape) -> None:
    """ValueError for what `conv_shape` would not have made, or has nothing to compute: the code would divide by it."""
    within = min(shape.strides) > 0 and min(sum(shape.padding, ())) >= 0
    if not within or min(*shape.x_shape, *shape.w_shape, *shape.y_shape) < 1:
        raise ValueError(f"{shape} is no convolution with something to compute: take one of `conv_shape`.")
