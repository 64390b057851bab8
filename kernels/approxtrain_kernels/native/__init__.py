"""The convolutions of a CPU by code of our own, compiled by LLVM for the shape and the processor (float32).

XLA's own mostly take longer, inside of loops and branches several times as long (docs/cpu.md). Here forward and dgrad
are one kind of code (`convolve`), a weight gradient another (`generate`, `entries`), which turns neither x nor dO; the
threads are those of XLA (`entry.ll`). Code is compiled when a program that needs it is traced, once a process and
shape. `APPROXTRAIN_NATIVE=0` turns it off.

Operands of another type or shape than said are a ValueError: the code trusts its pointers.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from threading import Lock

import jax
import jax.numpy as jnp
from llvmlite.ir import Module

from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.native import convolve, engine, entries, generate
from approxtrain_kernels.native.cut import Cut
from approxtrain_kernels.native.sweep import Sweep

_lock = Lock()
_registered: dict[tuple[str, ConvShape, int], tuple[str, int]] = {}


@cache
def available() -> bool:
    """Whether this process can make such code: Linux, x86 with AVX2 or AVX-512, and XLA's interface as we know it."""
    if os.environ.get("APPROXTRAIN_NATIVE") == "0" or platform.system() != "Linux":
        return False
    return engine.lanes() is not None and engine.interface() is not None


def described() -> str | None:
    """Which registers such code uses here: "AVX2" or "AVX-512"; None where there is none."""
    return {8: "AVX2", 16: "AVX-512"}[engine.lanes() or 8] if available() else None


def computes(shape: ConvShape, dtype) -> bool:
    """Whether this convolution is one of those that are written here: float32, and something to compute."""
    return available() and dtype == jnp.float32 and shape.macs > 0


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`, in float32, on a CPU."""
    return _call("forward", {"x": x, "w": w}, shape, shape.y_shape)


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]` from dy `[N, Ho, Wo, Co]` and w, in float32, on a CPU."""
    return _call("dgrad", {"dy": dy, "w": w}, shape, shape.x_shape)


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape, r: int = 1) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x `[N, H, W, Ci]` and dy `[N, Ho, Wo, Co]`, in float32, on a CPU.

    With r > 1: of dy with each block of r×r replaced by its mean. ValueError where r does not divide Ho and Wo.
    """
    _, ho, wo, _ = shape.y_shape
    if ho % r or wo % r:
        raise ValueError(f"`r` (={r}) must divide the rows and columns of dO, which are {ho}×{wo}.")
    return _call("wgrad", {"x": x, "dy": dy}, shape, shape.w_shape, r)


def largest_entries(x: jax.Array, dy: jax.Array, shape: ConvShape, *, fetch: bool) -> jax.Array:
    """dw of dy with all but the largest entry of each plane set to 0, which carries the sum of its plane.

    By fetching the patches of x that those entries saw (`entries`), or by the dense sum of what is left.
    """
    if not fetch:
        return _call("thin", {"x": x, "dy": dy}, shape, shape.w_shape)
    kh, kw, ci, co = shape.w_shape
    return _call("entries", {"x": x, "dy": dy}, shape, (co, kh, kw, ci)).transpose(1, 2, 3, 0)


def _call(
    rule: str, operands: dict[str, jax.Array], shape: ConvShape, result: tuple[int, ...], r: int = 1
) -> jax.Array:
    sizes = {"x": shape.x_shape, "w": shape.w_shape, "dy": shape.y_shape}
    for name, operand in operands.items():
        if operand.shape != sizes[name] or operand.dtype != jnp.float32:
            found, meant = f"{operand.dtype} of {operand.shape}", f"float32 of {sizes[name]}"
            raise ValueError(f"`{name}` is {found}; for this convolution it must be {meant}.")
    target, numbers = _target(rule, shape, r)
    results = (jax.ShapeDtypeStruct(result, jnp.float32), jax.ShapeDtypeStruct((numbers,), jnp.float32))
    return jax.ffi.ffi_call(target, results, vmap_method="sequential")(*operands.values())[0]


def _target(rule: str, shape: ConvShape, r: int) -> tuple[str, int]:
    """The name that this shape's code is registered by, and the numbers of its workspace."""
    with _lock:
        if (rule, shape, r) not in _registered:
            code, numbers, parts = _written(rule, shape, r)
            sizes = (*shape.x_shape, shape.out_channels, *shape.kernel_size, *shape.strides, *sum(shape.padding, ()), r)
            # With the workspace in it: a program saved where that is smaller must not find this code.
            name = f"approxtrain_{rule}_{'_'.join(map(str, sizes))}_{parts}_{numbers}"
            engine.register(name, str(code), parts)
            _registered[rule, shape, r] = name, numbers
        return _registered[rule, shape, r]


def _written(rule: str, shape: ConvShape, r: int) -> tuple[Module, int, int]:
    """The code, the numbers of its workspace, the parts of the work."""
    threads, lanes = len(os.sched_getaffinity(0)), engine.lanes() or 0
    if rule in ("forward", "dgrad"):
        sweep = Sweep(shape, threads, lanes, backward=rule == "dgrad")
        return convolve.module(sweep), sweep.workspace, sweep.parts
    cut = Cut(shape, threads, lanes, r, rule == "thin")
    if rule == "entries":
        return entries.module(cut), entries.workspace(cut), cut.parts
    return generate.module(cut), cut.workspace, cut.parts
