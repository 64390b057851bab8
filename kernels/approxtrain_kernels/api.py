"""`conv` and `weight_gradient`: a convolution with its method's gradients, and one weight gradient alone.

Both take a method by its name with its parameters, or as an instance, and refuse what they cannot compute by a
ValueError that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain_kernels import seam
from approxtrain_kernels.by_replica import ByReplica
from approxtrain_kernels.geometry import Padding, conv_shape, pair
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods import make
from approxtrain_kernels.primitives import varying_alike

AXES = {"x": "[N, H, W, Ci]", "w": "[Kh, Kw, Ci, Co]", "dy": "[N, Ho, Wo, Co]"}


def conv(
    x: jax.Array,
    w: jax.Array,
    *,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    method: Method | str = "full",
    key: Any = None,
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
    **params: Any,
) -> jax.Array:
    """x `[N, H, W, Ci]`, w `[Kh, Kw, Ci, Co]` → y `[N, Ho, Wo, Co]`; differentiable in x and w, twice under `full`.

    conv(x, w, method="approx", k=2). `params` are the method's parameters, if `method` is a name. `key` is needed by
    methods that draw numbers, and must be new in each step and layer. Groups and dilation are not implemented.
    """
    x, w = _checked_arrays(x=x, w=w)
    _check_plain(groups, dilation)
    if w.shape[2] != x.shape[3]:
        raise ValueError(
            f"`w` must be [Kh, Kw, Ci, Co] with the Ci of `x` [N, H, W, Ci]; their shapes are {w.shape} and {x.shape}."
        )
    shape, rule = conv_shape(x.shape, w.shape[3], w.shape[:2], strides, padding), _checked_method(method, params)
    x, w = varying_alike(x, w)  # jax does not do it itself for a function that brings its own gradients
    return seam.convolution(shape, rule, x, w, _checked_key(rule, key))


def weight_gradient(
    x: jax.Array,
    dy: jax.Array,
    *,
    kernel_size: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    method: Method | str = "full",
    key: jax.Array | None = None,
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
    **params: Any,
) -> jax.Array:
    """x `[N, H, W, Ci]`, dy = ∂L/∂y `[N, Ho, Wo, Co]` → dw `[Kh, Kw, Ci, Co]` in the dtype of x.

    weight_gradient(x, dy, kernel_size=(3, 3), method="approx", k=2). The other arguments are those of `conv`.
    """
    x, dy = _checked_arrays(x=x, dy=dy)
    _check_plain(groups, dilation)
    shape, rule = conv_shape(x.shape, dy.shape[3], kernel_size, strides, padding), _checked_method(method, params)
    if dy.shape != shape.y_shape:
        raise ValueError(f"`dy` must have the shape {shape.y_shape} of the convolution's output, but has {dy.shape}.")
    return seam.weight_gradient(shape, rule, x, dy, _checked_key(rule, key))


def _checked_arrays(**operands: Any) -> tuple[jax.Array, ...]:
    """The operands, by their names in AXES, as jax arrays of one real floating-point type and with no empty axis."""
    for name, operand in operands.items():
        if not (hasattr(operand, "shape") and hasattr(operand, "dtype")):
            raise ValueError(f"`{name}` is a {type(operand).__name__}: pass an array {AXES[name]}, by jnp.asarray.")
        if len(operand.shape) != 4:
            raise ValueError(f"`{name}` must have the four axes {AXES[name]}, but its shape is {tuple(operand.shape)}.")
        if 0 in operand.shape:
            raise ValueError(f"`{name}` is empty, its shape is {tuple(operand.shape)}: leave out what has no entry.")
        if not jnp.issubdtype(operand.dtype, jnp.floating):
            complex_parts = "take its real and its imaginary part one after the other"
            advice = complex_parts if jnp.iscomplexobj(operand) else f"convert it, by {name}.astype(jnp.float32)"
            raise ValueError(
                f"`{name}` is {operand.dtype}, and a gradient needs real floating-point numbers: {advice}."
            )
    arrays = tuple(map(jnp.asarray, operands.values()))
    if len({array.dtype for array in arrays}) > 1:
        described = " and ".join(f"`{name}` ({array.dtype})" for name, array in zip(operands, arrays, strict=True))
        raise ValueError(f"{described} must have one dtype: cast one of them.")
    return arrays


def _check_plain(groups: int, dilation: Sequence[int]) -> None:
    if groups != 1:
        raise ValueError(f"`groups` (={groups}) must be 1: grouped convolutions are not implemented.")
    if pair("dilation", dilation) != (1, 1):
        raise ValueError(f"`dilation` (={tuple(dilation)}) must be (1, 1): dilated convolutions are not implemented.")


def _checked_method(method: Method | str, params: Mapping[str, Any]) -> Method:
    if isinstance(method, str):
        return make(method, **params)
    if not isinstance(method, Method):
        raise ValueError(f"`method` (={method!r}) must be a method's name, such as 'approx', or an instance of one.")
    if params:
        raise ValueError(
            f"`{next(iter(params))}` is given beside the instance {method.label}, which has its parameters already: "
            f"put it into the instance, or pass the name {method.name!r} instead."
        )
    return method


def _checked_key(method: Method, key: Any) -> Any:
    """The key of a method that draws, None of all others; with its place before it of a `ByReplica`."""
    if isinstance(method, ByReplica):
        if not isinstance(key, tuple) or len(key) != 2:
            raise ValueError(f"`key` (={key!r}) of {method.label} must be the replica's place and a key, or None.")
        return key[0], _key_to_draw_with(method, key[1])
    return _key_to_draw_with(method, key)


def _key_to_draw_with(method: Method, key: Any) -> jax.Array | None:
    if "key" not in method.needs:
        return None
    if key is None:
        raise ValueError(f"method {method.name!r} draws numbers: pass `key`, folded with the step and the layer.")
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (dtype == jnp.uint32 and len(shape or ()) == 1):
        raise ValueError(f"`key` (={key!r}) must be one random key, as jax.random.key(seed) gives it.")
    return key
