"""The dense convolutions of a CPU through oneDNN, which every x86 Linux wheel of jaxlib carries but does not use.

XLA's own CPU convolutions (Eigen) take up to 5 times as long, and many times that in loops, branches and on 2×2 maps
(docs/cpu.md).
The custom call `__onednn$convolution` of XLA's CPU backend computes, for channels-last tensors of any rank,

    y[b, o, co] = Σ_{t, ci}  x[b, o·stride + t·dilation − lo, ci] · w[t, ci, co]

and the three parts of a convolution are written as this one call:

    forward   as it stands
    dgrad     y = dx from dy and the flipped, transposed w; a stride of s is s² such calls, one for each phase
    wgrad     b = 1, and the sum runs over the images: x is read with N channels, dO as its kernel. In one of two ways,
              since as a 2-D convolution of [H, W] with [Ho, Wo] there would be three outputs a row for the registers:
              a volume [H, W, Ci] with the kernel [Ho, Wo, 1], o = (i, j, ci); or rows [H, W·Ci], o = (i, j·Ci + ci),
              in which neighbours of the kernel are s·Ci apart. Rows are faster for few images, and a loop over groups
              of a few images finds them in the cache.

The call is no public interface of jaxlib, so it is used only in the versions in which the tests of this package ran it,
and `APPROXTRAIN_ONEDNN=0` turns it off. Everywhere else `canonical` computes the same.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import distribution
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from approxtrain_kernels.geometry import ConvShape, Pair

TESTED = ("0.10.2", "0.11.2", "0.12.0")
"""Versions of jaxlib, to the third number, in which the call was tested."""
GROUP_IMAGES, GROUP_BYTES = 16, 6 * 2**20
"""Images that `in_groups` takes at a time; half of them where their x and dO are larger than a cache."""
SUMMED_BYTES = 2**22
"""A dW that is too large to be written and added up for every group."""


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


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]`."""
    return _of_volume(x, dy, shape) if group_images(shape) is None else in_groups(_of_rows, x, dy, shape)


def in_groups(
    part: Callable[[jax.Array, jax.Array, ConvShape], jax.Array], x: jax.Array, dy: jax.Array, shape: ConvShape
) -> jax.Array:
    """Σ part(x, dy, shape) over groups of a few images, one after the other: what a group needs stays in the cache."""
    images = group_images(shape)
    if images is None or images >= shape.batch:
        return part(x, dy, shape)
    whole, rest = divmod(shape.batch, images)
    group = replace(shape, batch=images)

    def add_group(number, total):
        first = number * images
        own_x, own_dy = (lax.dynamic_slice_in_dim(image, first, images) for image in (x, dy))
        return total + part(own_x, own_dy, group)

    dw = lax.fori_loop(0, whole, add_group, jnp.zeros(shape.w_shape, jnp.float32))
    return dw + part(x[-rest:], dy[-rest:], replace(shape, batch=rest)) if rest else dw


def group_images(shape: ConvShape) -> int | None:
    """How many images `in_groups` takes at a time; None where it takes all at once (docs/cpu.md)."""
    if 4 * prod(shape.w_shape) > SUMMED_BYTES:
        return None
    group = 4 * (prod(shape.x_shape) + prod(shape.y_shape)) // shape.batch * GROUP_IMAGES
    return GROUP_IMAGES if group <= GROUP_BYTES else GROUP_IMAGES // 2


def _of_rows(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    x, (rows, cols) = _cropped(x, shape.wgrad_padding)
    n, height, width, ci = x.shape
    image = jnp.transpose(x, (1, 2, 3, 0)).reshape(1, height, width * ci, n)
    kernel = jnp.transpose(dy, (1, 2, 0, 3))
    padding = (rows, (cols[0] * ci, cols[1] * ci))
    sh, sw = shape.strides
    dw = convolution(image, kernel, padding=padding, strides=(1, 1), dilation=(sh, sw * ci))
    return dw.reshape(shape.w_shape)


def _of_volume(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    n, ho, wo, co = dy.shape
    x, padding = _cropped(x, shape.wgrad_padding)
    volume = jnp.transpose(x, (1, 2, 3, 0))[None]
    kernel = jnp.transpose(dy, (1, 2, 0, 3)).reshape(ho, wo, 1, n, co)
    dilation = (*shape.strides, 1)
    dw = convolution(volume, kernel, padding=(*padding, (0, 0)), strides=(1, 1, 1), dilation=dilation)
    return dw.reshape(shape.w_shape)


def _cropped(image: jax.Array, padding: Sequence[Pair]) -> tuple[jax.Array, list[Pair]]:
    """Negative padding, of rows and columns that no tap reaches, as a slice; and the padding that is left."""
    rows, cols = (
        slice(max(-lo, 0), size - max(-hi, 0)) for (lo, hi), size in zip(padding, image.shape[1:3], strict=True)
    )
    return image[:, rows, cols], [(max(lo, 0), max(hi, 0)) for lo, hi in padding]
