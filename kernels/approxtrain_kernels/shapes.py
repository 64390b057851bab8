"""Named workloads, shared by the tests and the benchmarks. Imports no jax.

The paper's Table 1 gives channels and height = width; its batch is not printed. 128 and 3×3 kernels with stride 1 are
what its networks use, and so is what is meant here.
"""

from __future__ import annotations

from approxtrain_kernels.geometry import ConvShape, conv_shape

BATCH = 128

PAPER = tuple(
    conv_shape((BATCH, size, size, channels), channels, (3, 3))
    for channels, size in ((256, 8), (128, 16), (512, 4), (512, 2), (64, 32), (16, 32), (32, 16), (64, 8))
)
"""The eight rows of Table 1, in its order."""


def parse(text: str) -> ConvShape:
    """ "N,H,W,Ci,Co,K,S" → shape, SAME padding. ValueError says what is wrong."""
    parts = text.split(",")
    if len(parts) != 7 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"a shape is seven numbers N,H,W,Ci,Co,K,S, such as 128,32,32,16,16,3,1; this is {text!r}.")
    n, h, w, ci, co, k, s = (int(part) for part in parts)
    if min(n, h, w, ci, co) < 1:
        raise ValueError(f"every number of a shape must be at least 1; this is {text!r}.")
    return conv_shape((n, h, w, ci), co, (k, k), (s, s))
