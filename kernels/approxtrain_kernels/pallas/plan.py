"""What is decided about a layer before its kernels are written. Imports no jax."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How a kernel is cut. Tiles have powers of two for sizes, since Triton knows no others."""

    co: int
    """Output channels of a program."""
    ci: int = 0
    """Input channels of a program."""
    pixels: int = 0
    """Pixels of one tile, where a program looks for the largest dO."""
    images: int = 1
    """Images of one step of the tensor form."""
    splits: int = 1
    """Shares of the batch that are summed apart."""
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to compute an estimator: what it takes by the model, and how its kernel is cut."""

    form: str
    seconds: float
    bytes: float
    """Read from or written to the device's memory, at least."""
    flops: float
    kernels: int
    """Launches, of which `approx_select` is one unless the form is `full` or `fused`."""
    blocks: Blocks | None = None
