"""The one seam: a convolution whose weight gradient is whatever its method says.

    forward   y  = x ∗ w                      exact
    dgrad     dx = ∂L/∂x                      exact, for every method
    wgrad     dw = method.estimate(x, dO)     `full` is ∂L/∂w

The method is static, so a compiled step contains the chosen estimator and nothing else: `zero` and `random` keep no
input for the backward pass, and XLA removes what nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from approxtrain_kernels import dense
from approxtrain_kernels.api import check_implementation
from approxtrain_kernels.geometry import ConvShape, Padding, conv_shape
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.full import Full


class _Plan(NamedTuple):
    """The static part of a call."""

    shape: ConvShape
    method: Method
    implementation: str | None
    dtype: Any  # of the weight, and so of dw


def conv(
    x: jax.Array,
    w: jax.Array,
    *,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    method: Method | str = Full(),
    key: jax.Array | None = None,
    implementation: str | None = None,
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
) -> jax.Array:
    """x `[N, H, W, Ci]`, w `[Kh, Kw, Ci, Co]` → y `[N, Ho, Wo, Co]`; differentiable in x and w, once.

    `method` is a `Method` or a method's name; `key` is needed by methods that draw numbers, and must be new in each
    step and layer; `implementation` is as in `weight_gradient`. ValueError for shapes that do not fit, and for groups
    and dilation, which are not implemented.
    """
    if groups != 1:
        raise ValueError(f"`groups` (={groups}) must be 1: grouped convolutions have no approximated weight gradient.")
    if tuple(dilation) != (1, 1):
        raise ValueError(f"`dilation` (={tuple(dilation)}) must be (1, 1): dilated convolutions are not implemented.")
    if w.ndim != 4 or x.ndim != 4 or w.shape[2] != x.shape[3]:
        raise ValueError(
            f"`w` must be [Kh, Kw, Ci, Co] with the Ci of `x` [N, H, W, Ci]; their shapes are {w.shape} and {x.shape}."
        )
    if x.dtype != w.dtype:
        raise ValueError(f"`x` ({x.dtype}) and `w` ({w.dtype}) must have one dtype: cast one of them.")
    check_implementation(implementation)
    shape = conv_shape(x.shape, w.shape[3], w.shape[:2], strides, padding)
    method = make(method) if isinstance(method, str) else method
    if "key" in method.needs and key is None:
        raise ValueError(f"method {method.name!r} draws numbers: pass `key`, folded with the step and the layer.")
    return _conv(_Plan(shape, method, implementation, w.dtype), x, w, key if "key" in method.needs else None)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(plan: _Plan, x: jax.Array, w: jax.Array, key: jax.Array | None) -> jax.Array:
    return dense.forward(x, w, plan.shape)


def _forward(plan: _Plan, x: jax.Array, w: jax.Array, key: jax.Array | None):
    kept = x if "x" in plan.method.needs else None
    return dense.forward(x, w, plan.shape), (kept, w, key)


def _backward(plan: _Plan, residuals, dy: jax.Array):
    x, w, key = residuals
    dx = dense.dgrad(dy, w, plan.shape)
    dw = plan.method.estimate(x, dy, shape=plan.shape, dtype=plan.dtype, key=key, implementation=plan.implementation)
    no_gradient = None if key is None else np.zeros(key.shape, jax.dtypes.float0)
    return dx, dw, no_gradient


_conv.defvjp(_forward, _backward)
