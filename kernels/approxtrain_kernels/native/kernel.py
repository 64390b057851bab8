"""The interface of a CPU kernel: what it reads and writes, how its work is divided into slices, and its code.

The threads that run the slices are XLA's: `entry.ll` hands them over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from approxtrain_kernels.geometry import ConvShape

Size = tuple[int, ...]


@dataclass(frozen=True)
class Kernel(ABC):
    """One kernel for one layer, for `threads` threads and vector registers of `lanes` float32 numbers."""

    shape: ConvShape
    threads: int
    lanes: int

    sums_over_batch: ClassVar[bool]
    """Whether the result is a sum over the images; otherwise its first axis is that of the images."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A word for the kernel, the first part of the target's name."""

    @property
    @abstractmethod
    def operands(self) -> dict[str, Size]:
        """Name and shape of the two operands."""

    @property
    @abstractmethod
    def result(self) -> Size:
        """Shape of the result."""

    @property
    @abstractmethod
    def slices(self) -> int:
        """Into how many slices the work is divided for threads."""

    @property
    @abstractmethod
    def workspace(self) -> int:
        """float32 numbers of the workspace, at least 1."""

    @abstractmethod
    def module(self) -> ir.Module:
        """`slice(number, a, b, result, workspace)` and `combine(result, workspace)`, which `entry.ll` calls."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every number that the code depends on, beside threads and registers."""
        shape = self.shape
        return (*shape.x_shape, shape.out_channels, *shape.kernel_size, *shape.strides, *sum(shape.padding, ()))

    @property
    def call_target(self) -> str:
        """The name by which XLA finds the code.

        The workspace is in it: a program that was saved where that is smaller must not find this code.
        """
        numbers = "_".join(map(str, self.sizes))
        return f"approxtrain_{self.name}_{numbers}_{self.slices}_{self.workspace}"
