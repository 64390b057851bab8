"""ReLU, written so that its result is stored once.

    y = max(x, 0),    dx = dy where y > 0, else 0

XLA's CPU backend computes a cheap function of one array anew in each of its readers, and with it all that it was
computed from: with `max(x, 0)` the transposes of a weight gradient normalised and added whole residual blocks again.
A choice between two arrays is not copied like that. The gradient looks at y, which is stored, and not at x.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0) in the dtype of x; a NaN stays. The gradient at 0 is 0."""
    return jnp.where(x < 0, 0, x)


def _forward(x: jax.Array):
    y = relu(x)
    return y, y


def _backward(y: jax.Array, dy: jax.Array):
    return (jnp.where(y > 0, dy, 0),)


relu.defvjp(_forward, _backward)
