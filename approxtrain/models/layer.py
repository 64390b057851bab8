"""A convolution as a schedule sees it. Imports no jax."""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels import ConvShape


@dataclass(frozen=True)
class ConvLayer:
    """One convolution of a network, in the order of the forward pass. `shape.batch` is 1: multiply by the batch."""

    number: int
    """From 1."""
    path: str
    """Where it stands in the module: "stage1/0/conv2" is `module.stage1[0].conv2`."""
    shape: ConvShape
    norms: tuple[str, ...] = ()
    """Paths of the normalisations that come after it and before the next one; of layer 1 those before it as well."""

    @property
    def stride(self) -> int:
        return self.shape.strides[0]
