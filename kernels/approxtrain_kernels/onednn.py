"""The dense convolutions of a CPU through oneDNN, which every x86 Linux wheel of jaxlib carries but does not use.

XLA's own CPU convolutions (Eigen) take up to 5 times as long, and many times that in loops, branches and on 2×2 maps
(docs/cpu.md).
The custom call `__onednn$convolution` of XLA's CPU backend computes, for channels-last tensors of any rank,

    y[b, o, co] = Σ_{t, ci}  x[b, o·stride + t·dilation − lo, ci] · w[t, ci, co]

and two of the three parts of a convolution are written as this one call (the third is `native`):

    forward   as it stands
    dgrad     y = dx from dy and the flipped, transposed w; a stride of s is s² such calls, one for each phase

The call is no public interface of jaxlib, so it is used only in the versions in which the tests of this package ran it,
and `APPROXTRAIN_ONEDNN=0` turns it off. Everywhere else `canonical` computes the same.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distribution

import jax
import jax.numpy as jnp

from approxtrain_kernels.geometry import ConvShape, Pair

TESTED = ("0.10.2", "0.11.2", "0.12.0")
"""Versions of jaxlib, to the third number, in which the call was tested."""


@cache
def available() -> bool:
    """Whether this jaxlib has the call, as far as we know: its makers' own wheel for x86 Linux, in a tested version."""
    jaxlib = distribution("jaxlib")
    known = ".".join(jaxlib.version.split(".")[:3]) in TESTED
    theirs = "manylinux" in (jaxlib.read_text("WHEEL") or "")  # a distribution's own build may lack oneDNN
    here = platform.system() == "Linux" and platform.machine() == "x86_64"
    return known and theirs and here and os.environ.get("APPROXTRAIN_ONEDNN") != "0"


def computes(shape: ConvShape, dtype) -> bool:
    """Whether this convolution is one of those that are written here: float32, and something to compute."""
    return available() and dtype == jnp.float32 and shape.macs > 0


def convolution(
    x: jax.Array,
    w: jax.Array,
    *,
    padding: Sequence[Pair],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> jax.Array:
    """x `[B, …, Ci]`, w `[…, Ci, Co]` → y `[B, …, Co]`, with two or three axes in the middle. No negative padding."""
    rank = x.ndim
    axes = range(1, rank - 1)
    size = [
        (x.shape[1 + a] + sum(padding[a]) - (w.shape[a] - 1) * dilation[a] - 1) // strides[a] + 1
        for a in range(rank - 2)
    ]
    data = {"batch_dim": "0", "feature_dim": str(rank - 1), "spatial_dims": _texts(axes)}
    taps = {
        "input_feature_dim": str(rank - 2),
        "output_feature_dim": str(rank - 1),
        "spatial_dims": _texts(range(rank - 2)),
        "shape": _texts(w.shape),
    }
    window = {
        "size": _texts(w.shape[: rank - 2]),
        "pad_left": _texts(lo for lo, _ in padding),
        "pad_right": _texts(hi for _, hi in padding),
        "strides": _texts(strides),
        "window_dilations": _texts(dilation),
    }
    config = {
        "dims": str(rank),
        "input": {"data": data},
        "kernel": {"filter": taps},
        "output": {"data": data},
        "window": window,
        "feature_groups": "1",
    }
    return jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], *size, w.shape[-1]), x.dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"outer_dimension_partitions": [], "onednn_conv_config": config}),
        vmap_method="sequential",
    )(x, w)


def _texts(numbers) -> list[str]:
    """64-bit integers are strings in the JSON of a protocol buffer."""
    return [str(int(number)) for number in numbers]


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]`."""
    return convolution(x, w, padding=shape.padding, strides=shape.strides, dilation=(1, 1))


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]`.

    Pixel h of dx is reached by the taps i with (h + lo − i) divisible by s. Pixels of one phase h mod s share them,
    and are a convolution of dy with every s-th tap: no zeros are multiplied.
    """
    flipped = jnp.transpose(w[::-1, ::-1], (0, 1, 3, 2))
    sh, sw = shape.strides
    rows = [[_phase(dy, flipped, shape, (a, b)) for b in range(sw)] for a in range(sh)]
    if (sh, sw) == (1, 1):
        return rows[0][0]
    n, height, width, ci = shape.x_shape
    full = jnp.stack([jnp.stack(row, axis=3) for row in rows], axis=2)  # [N, H/s, s, W/s, s, Ci]
    return full.reshape(n, full.shape[1] * sh, full.shape[3] * sw, ci)[:, :height, :width]


def _phase(dy, flipped, shape: ConvShape, phase: Pair) -> jax.Array:
    """The pixels (h, w) of dx with h mod s_h, w mod s_w = phase; rounded up to the same number for each phase."""
    padding, taps = [], []
    for axis in (0, 1):
        size, k, s = shape.x_shape[1 + axis], shape.kernel_size[axis], shape.strides[axis]
        lo, out = shape.padding[axis][0], shape.y_shape[1 + axis]
        first = (phase[axis] + lo) % s  # the lowest tap of this phase
        count = len(range(first, k, s))
        low = (phase[axis] + lo - first) // s  # the pixel of dO which that tap joins to the phase's first pixel
        wanted = -(-size // s)
        taps.append(slice((k - 1 - first) % s, k, s))
        padding.append((count - 1 - low, wanted + low - out))
    sub = flipped[taps[0], taps[1]]
    if 0 in sub.shape:  # a kernel smaller than the stride reaches no pixel of this phase
        sizes = [-(-size // s) for size, s in zip(shape.x_shape[1:3], shape.strides, strict=True)]
        return jnp.zeros((shape.batch, *sizes, shape.in_channels), dy.dtype)
    dy, padding = _cropped(dy, padding)
    return convolution(dy, sub, padding=padding, strides=(1, 1), dilation=(1, 1))


def _cropped(image: jax.Array, padding: Sequence[Pair]) -> tuple[jax.Array, list[Pair]]:
    """Negative padding, of rows and columns that no tap reaches, as a slice; and the padding that is left."""
    rows, cols = (
        slice(max(-lo, 0), size - max(-hi, 0)) for (lo, hi), size in zip(padding, image.shape[1:3], strict=True)
    )
    return image[:, rows, cols], [(max(lo, 0), max(hi, 0)) for lo, hi in padding]
