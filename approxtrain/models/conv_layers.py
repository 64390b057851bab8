"""The convolutions of an NNX network, found by tracing its forward pass: nobody writes them down."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from approxtrain.models.approximate import Convolution, Product, as_convolution, modules_by_path
from approxtrain.models.forward import forward
from approxtrain.models.layer import ConvLayer
from approxtrain_kernels import conv_shape

NORMS = (nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm)


class Layers(NamedTuple):
    """The convolutions of a network."""

    numbered: tuple[ConvLayer, ...]
    """Those that a schedule can reach, in the order in which the forward pass comes to them."""
    exact: dict[str, str]
    """Path of every other one → why it stays exact."""


def conv_layers(model: nnx.Module, images: jax.ShapeDtypeStruct | jax.Array) -> Layers:
    """The layers of `model`, from one abstract call on one of `images` `[N, …]`: nothing is computed.

    A module that is called several times is one layer, with the shapes of its first call.
    """
    return traced(model, images)[0]


def traced(model: nnx.Module, images: jax.ShapeDtypeStruct | jax.Array) -> tuple[Layers, Any]:
    """The layers of `model`, and what it makes of one image: shape and type of an array, if it is one."""
    trace, (graph, state) = _Trace(), nnx.split(model)

    def call(state: Any, x: jax.Array) -> Any:
        copy = nnx.merge(graph, state)
        for path, module in modules_by_path(copy).items():
            trace.listen(path, module)
        return forward(copy, x, training=True)

    output = jax.eval_shape(call, state, jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype))
    norms: dict[int, tuple[str, ...]] = {}
    for path, layer_before in trace.norms.items():
        number = max(layer_before, 1)
        norms[number] = (*norms.get(number, ()), path)
    numbered = tuple(replace(layer, norms=norms.get(layer.number, ())) for layer in trace.layers.values())
    return Layers(numbered, trace.exact), output


class _Trace:
    """What one forward pass came to, in its order."""

    def __init__(self) -> None:
        self.layers: dict[str, ConvLayer] = {}
        self.exact: dict[str, str] = {}
        self.norms: dict[str, int] = {}
        """Path of a normalisation → number of the layer before it."""

    def listen(self, path: str, module: nnx.Module) -> None:
        """Put our ears in the place of the functions that a module computes by."""
        if isinstance(module, nnx.Conv):
            if module.conv_general_dilated is lax.conv_general_dilated or _is_ours(module.conv_general_dilated):
                module.conv_general_dilated = partial(self._convolution, path)
            else:
                self.exact[path] = "by a function of its own"
        elif isinstance(module, nnx.ConvTranspose):
            self.exact[path] = "a transposed convolution"
        elif isinstance(module, nnx.Linear):
            if module.dot_general is lax.dot_general or _is_ours(module.dot_general):
                module.dot_general = partial(self._product, path)
        elif isinstance(module, NORMS):
            module.promote_dtype = partial(self._norm, path, module.promote_dtype)

    def _convolution(self, path: str, x: jax.Array, w: jax.Array, strides: Any, padding: Any, **options: Any) -> Any:
        if why := why_exact(x, w, options):
            self.exact[path] = why
        else:
            self._add(path, conv_shape(x.shape, w.shape[3], w.shape[:2], strides, padding))
        return lax.conv_general_dilated(x, w, strides, padding, **options)

    def _product(self, path: str, x: jax.Array, w: jax.Array, dimensions: Any, **options: Any) -> Any:
        if x.ndim in (3, 4) and options.get("precision") is None and not options.get("preferred_element_type"):
            image, kernel = as_convolution(x.shape, w.shape)
            self._add(path, conv_shape(image, kernel[3], kernel[:2]))
        return lax.dot_general(x, w, dimensions, **options)

    def _add(self, path: str, shape: Any) -> None:
        self.layers.setdefault(path, ConvLayer(len(self.layers) + 1, path, replace(shape, batch=1)))

    def _norm(self, path: str, promote_dtype: Any, *operands: Any, **options: Any) -> Any:
        self.norms.setdefault(path, len(self.layers))
        return promote_dtype(*operands, **options)


def _is_ours(function: Any) -> bool:
    return isinstance(function, Convolution | Product)


def why_exact(x: jax.Array, w: jax.Array, options: dict[str, Any]) -> str:
    """Why a convolution, as `nnx.Conv` calls it, is none that our methods compute; empty if it is one."""
    axes = w.ndim - 2
    if axes != 2:
        return f"a convolution over {axes} {'axis' if axes == 1 else 'axes'}"
    if options.get("feature_group_count", 1) != 1:
        return f"in {options['feature_group_count']} groups"
    if any(dilation != (1, 1) for dilation in (options.get("lhs_dilation"), options.get("rhs_dilation")) if dilation):
        return "dilated"
    if options.get("precision") is not None:
        return "with a `precision` of its own"
    if options.get("preferred_element_type") not in (None, x.dtype):
        return "with a result type of its own"
    return "" if jnp.issubdtype(x.dtype, jnp.floating) else f"of {x.dtype} numbers"
