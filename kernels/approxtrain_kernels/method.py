"""What a method is: a rule that says what stands in for the gradients of one convolution in one step.

A method is one file in `methods/` with one frozen dataclass in it: its fields are the method's parameters, so that an
instance is hashable and can be a static argument of a compiled step. This file imports no jax, and neither does
a method's file until its estimator is called: the schedule and the command line know methods without starting jax.

Three functions say what it computes, and a method writes only those in which it differs:

    keep       x          → what is kept of the forward pass    default: x, if the method reads it
    estimate   kept, dO   → dW                                  for a method whose dgrad is exact
    gradients  kept, w, dO → (dx, dW)                           default: the exact dgrad, and `estimate`

A method that approximates dgrad writes `gradients`, where one decision can serve both results.
"""

from __future__ import annotations

from colorsys import hls_to_rgb
from dataclasses import Field, dataclass, fields
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

from approxtrain_kernels.geometry import ConvShape

if TYPE_CHECKING:
    import jax
    import numpy as np


@dataclass(frozen=True)
class Method:
    """One rule for dW, or for dW and dx. Subclasses add their parameters as fields, and check them in `__post_init__`
    (ValueError). A field with the metadata `{"parameter": False}` decides how and not what is computed: it belongs to
    the instance and to no configuration."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for `approxtrain ls`."""
    needs: ClassVar[frozenset[str]]
    """What the estimator reads, out of "x", "dy" and "key": without "x" nothing of x is kept from the forward pass. A
    method that reads nothing gives no gradient: its dW is zero."""
    colour: ClassVar[str]
    """"#rrggbb", the same in every picture, and readable as text on white. A class that states none is given one that
    depends on its name alone."""
    updates_weight: ClassVar[bool] = True
    """False: the optimiser leaves the weight and its moments as they are in this step."""
    exact_dgrad: ClassVar[bool] = True
    """Whether dx is exact. A class that writes `gradients` is taken to approximate dx unless it says otherwise."""

    def __init_subclass__(cls) -> None:
        if "colour" not in vars(cls) and "name" in vars(cls):
            hue = crc32(cls.name.encode()) / 2**32
            cls.colour = "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, 0.36, 0.65))
        if "gradients" in vars(cls) and "exact_dgrad" not in vars(cls):
            cls.exact_dgrad = False

    def flops(self, shape: ConvShape) -> float:
        """Floating-point operations of dW, to hold against `shape.flops` of the dense wgrad."""
        raise NotImplementedError

    def dgrad_flops(self, shape: ConvShape) -> float:
        """Floating-point operations of dx, to hold against `shape.flops` of the dense dgrad."""
        return shape.flops

    def bytes(self, shape: ConvShape, itemsize: int) -> float:
        """Bytes that have to be moved for dW: what must be read, by default all of what `needs` says, plus dW once."""
        read = sum(prod(size) for name, size in (("x", shape.x_shape), ("dy", shape.y_shape)) if name in self.needs)
        return itemsize * (read + prod(shape.w_shape)) if self.needs else 0

    def saves_nothing(self, shape: ConvShape) -> dict[str, str]:
        """Devices on which the estimator is no faster than the exact wgrad at this shape → how we know, and advice."""
        return {}

    def keep(self, x: Any, *, shape: ConvShape, key: Any) -> Any:
        """What the backward pass is given of x: any arrays, or None."""
        return x if "x" in self.needs else None

    def gradients(self, kept: Any, w: Any, dy: Any, *, shape: ConvShape, key: Any) -> tuple[Any, Any]:
        """(dx `[N, H, W, Ci]`, dW `[Kh, Kw, Ci, Co]`). Only dx may depend on w. What nobody reads of the two is removed
        from a compiled program."""
        from approxtrain_kernels import dense

        return dense.dgrad(dy, w, shape), self.estimate(kept, dy, shape=shape, key=key)

    def estimate(self, kept: Any, dy: Any, /, *, shape: ConvShape, key: Any) -> jax.Array:
        """dW alone, in any dtype. By default that of `gradients`, whose dx costs time where nothing is compiled."""
        import jax.numpy as jnp

        if type(self).gradients is Method.gradients:
            raise NotImplementedError(f"method {self.name!r} has neither `estimate` nor `gradients`.")
        return self.gradients(kept, jnp.zeros(shape.w_shape, dy.dtype), dy, shape=shape, key=key)[1]

    def oracle(self, x: np.ndarray, dy: np.ndarray, shape: ConvShape, key: Any = None) -> np.ndarray:
        """dW in float64 straight from the equation, slowly; with the draws that `key` gives in the estimator."""
        raise NotImplementedError

    def dgrad_oracle(
        self, x: np.ndarray, w: np.ndarray, dy: np.ndarray, shape: ConvShape, key: Any = None
    ) -> np.ndarray:
        """dx in float64."""
        from approxtrain_kernels import exact

        return exact.dgrad(dy, w, shape)

    @property
    def gives_gradient(self) -> bool:
        """False: dW is known to be zero before the step begins, so that a frozen prefix may hold the layer."""
        return bool(self.needs)

    @property
    def known_everywhere(self) -> bool:
        """True: no image has a part in dW, so that every replica of a batch has the same."""
        return self.needs.isdisjoint({"x", "dy"})

    @classmethod
    def parameters(cls) -> tuple[Field, ...]:
        """The fields that a configuration may set."""
        return tuple(field for field in fields(cls) if field.metadata.get("parameter", True))

    @property
    def params(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in self.parameters()}

    @property
    def label(self) -> str:
        """The method with its parameters where they differ from the defaults: "approx(k=4)"."""
        changed = [f"{f.name}={getattr(self, f.name)}" for f in self.parameters() if getattr(self, f.name) != f.default]
        return f"{self.name}({', '.join(changed)})" if changed else self.name


def refuse_unless_whole(name: str, value: Any, meaning: str) -> None:
    """ValueError unless a parameter is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1: {meaning}.")


def refuse_unless_share(name: str, value: Any, meaning: str) -> None:
    """ValueError unless a parameter is a number above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"`{name}` (={value!r}) must be more than 0 and at most 1: {meaning}.")
