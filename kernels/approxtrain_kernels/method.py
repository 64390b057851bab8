"""What a method is: a rule that says what stands in for the weight gradient of one convolution in one step.

A method is one file in `methods/` with one frozen dataclass in it: its fields are the method's parameters, so that an
instance is hashable and can be a static argument of a compiled step. This file imports no jax, and neither does
a method's file until its estimator is called: the schedule and the command line know methods without starting jax.
"""

from __future__ import annotations

from colorsys import hls_to_rgb
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

from approxtrain_kernels.geometry import ConvShape

if TYPE_CHECKING:
    import jax
    import numpy as np


@dataclass(frozen=True)
class Method:
    """One rule for dW. Subclasses add their parameters as fields and check them in `__post_init__` (ValueError)."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for `approxtrain ls`."""
    needs: ClassVar[frozenset[str]]
    """What the estimator reads, out of "x", "dy" and "key": the rest is not kept from the forward pass. One that reads
    nothing gives no gradient: its dW is zero."""
    colour: ClassVar[str]
    """"#rrggbb", the same in every picture, and readable as text on white. A class that states none is given one that
    depends on its name alone."""
    updates_weight: ClassVar[bool] = True
    """False: the optimiser leaves the weight and its moments as they are in this step."""

    def __init_subclass__(cls) -> None:
        if "colour" not in vars(cls) and "name" in vars(cls):
            hue = crc32(cls.name.encode()) / 2**32
            cls.colour = "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, 0.36, 0.65))

    def flops(self, shape: ConvShape) -> float:
        """Floating-point operations of the estimator, to hold against `shape.flops` of the dense wgrad."""
        raise NotImplementedError

    def bytes(self, shape: ConvShape, itemsize: int) -> float:
        """Bytes that the estimator has to move: what it must read plus dW once."""
        raise NotImplementedError

    def saves_nothing(self, shape: ConvShape) -> dict[str, str]:
        """Devices on which the estimator is no faster than the exact wgrad at this shape → how we know, and advice."""
        return {}

    def estimate(
        self,
        x: Any,
        dy: Any,
        *,
        shape: ConvShape,
        dtype: Any,
        key: Any,
        implementation: str | None,
    ) -> jax.Array:
        """dW `[Kh, Kw, Ci, Co]` of `dtype` from arrays x, dy and a random key; what `needs` does not list is None."""
        raise NotImplementedError

    def oracle(self, x: np.ndarray, dy: np.ndarray, shape: ConvShape) -> np.ndarray | None:
        """dW in float64 straight from the equation, slowly; None where the method draws numbers."""
        raise NotImplementedError

    @property
    def gives_gradient(self) -> bool:
        """False: dW is known to be zero before the step begins, so that a frozen prefix may hold the layer."""
        return bool(self.needs)

    @property
    def params(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def label(self) -> str:
        """The method with its parameters where they differ from the defaults: "approx(k=4)"."""
        changed = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{self.name}({', '.join(changed)})" if changed else self.name
