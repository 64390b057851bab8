"""The one seam: a convolution whose gradients are whatever its method says.

    forward   y      = x ∗ w                                exact
              kept   = method.keep(x)                       of x, nothing else is held for the backward pass
    backward  dx, dw = method.gradients(kept, w, dO)        for most methods the exact dgrad, and an estimate

The method is static, so a compiled step contains the chosen estimator and nothing else: `zero` and `random` keep no
input for the backward pass, and XLA removes what nobody reads.

An estimate is not differentiated again. A second derivative would go round it, by the exact formulas: the gradient
of a `zero` cell would not be zero any more. Only those of `full` have one; the others refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from approxtrain_kernels import dense
from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods.full import Full


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def convolution(shape: ConvShape, method: Method, x: jax.Array, w: jax.Array, key: Any) -> jax.Array:
    """y of x and w, of one dtype. `key` is None where the method draws no numbers, (place, key) of a `ByReplica`."""
    return dense.forward(x, w, shape)


def _forward(shape: ConvShape, method: Method, x: jax.Array, w: jax.Array, key: Any):
    return dense.forward(x, w, shape), (method.keep(x, shape=shape, key=key), w, key)


def _backward(shape: ConvShape, method: Method, residuals: Any, dy: jax.Array):
    kept, w, key = residuals
    gradients = partial(method.gradients, shape=shape)
    dx, dw = _once(method, lambda kept, w, dy, key: gradients(kept, w, dy, key=key))(kept, w, dy, key)
    no_gradient = jax.tree.map(lambda given: np.zeros(given.shape, jax.dtypes.float0), key)
    return dx.astype(w.dtype), dw.astype(w.dtype), no_gradient


convolution.defvjp(_forward, _backward)


def weight_gradient(shape: ConvShape, method: Method, x: jax.Array, dy: jax.Array, key: Any) -> jax.Array:
    """The dw of the backward pass, from an x that is still there."""

    def estimate(x: jax.Array, dy: jax.Array, key: Any) -> jax.Array:
        kept = method.keep(x, shape=shape, key=key)
        return method.estimate(kept, dy, shape=shape, key=key)

    return _once(method, estimate)(x, dy, key).astype(x.dtype)


def _once(method: Method, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose derivative is refused unless the method is exact."""
    if isinstance(method, Full):
        return function
    guarded = jax.custom_jvp(function)

    @guarded.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise ValueError(
            f"a derivative of the gradients of method {method.name!r} is asked for (a second derivative, of a gradient "
            "penalty, say). They are estimates: what lies behind them is not their derivative. Take the method 'full' "
            "for convolutions that are differentiated twice."
        )

    return guarded
