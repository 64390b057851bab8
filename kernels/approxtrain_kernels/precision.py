"""What sums are taken in, and entries compared: float32 at least, and float64 where that is what is given."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def wide(array: jax.Array) -> jax.Array:
    """The array in float32, or in its own type where that is wider."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
