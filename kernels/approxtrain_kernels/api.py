"""`weight_gradient`: one weight gradient by one method, for those who want the estimator without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from approxtrain_kernels.geometry import Padding, conv_shape
from approxtrain_kernels.methods import make

PORTABLE = ("reference", "xla")
IMPLEMENTATIONS = (*PORTABLE, "pallas", "pallas-interpret")
"""What stands for `approx`; other methods have one form, whatever is asked for.

`reference`: top-k and the dense form. `xla`: the portable fast path. `pallas`: kernels for NVIDIA GPUs, and ValueError
where a program is for anything else. `pallas-interpret`: those kernels, interpreted, to check them without a GPU. The
definition is each method's `oracle`.
"""


def weight_gradient(
    x: jax.Array,
    dy: jax.Array,
    *,
    kernel_size: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    method: str = "full",
    implementation: str | None = None,
    key: jax.Array | None = None,
    **params: Any,
) -> jax.Array:
    """x `[N, H, W, Ci]`, dy = ∂L/∂y `[N, Ho, Wo, Co]` → dw `[Kh, Kw, Ci, Co]` in the dtype of x.

    `params` are the method's parameters (`k`, `scale`). `implementation` is one of IMPLEMENTATIONS: a named one is
    used or refused, None takes the fastest that works here. Methods that draw numbers need `key`.

    Raises ValueError for an unknown method, parameter or implementation, and for shapes that do not fit together.
    """
    check_implementation(implementation)
    shape = conv_shape(x.shape, dy.shape[-1], kernel_size, strides, padding)
    if tuple(dy.shape) != shape.y_shape:
        raise ValueError(f"`dy` must have the shape {shape.y_shape} of the convolution's output, but has {dy.shape}.")
    if x.dtype != dy.dtype:
        raise ValueError(f"`x` ({x.dtype}) and `dy` ({dy.dtype}) must have one dtype: cast one of them.")
    rule = make(method, **params)
    return rule.estimate(x, dy, shape=shape, dtype=x.dtype, key=key, implementation=implementation)


def check_implementation(name: str | None) -> None:
    if name is not None and name not in IMPLEMENTATIONS:
        raise ValueError(f"`implementation` (={name!r}) must be one of {', '.join(IMPLEMENTATIONS)}, or None.")
