"""Any Flax NNX network under a column of a schedule: each convolution with its method's gradients.

    layers = conv_layers(model, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)).numbered
    schedule = Schedule.named("schedule1", layers, "approx")
    model = approximate(model, layers, schedule.column(step))

An `nnx.Conv` computes by the function in its attribute `conv_general_dilated`, and an `nnx.Linear` by that in
`dot_general`. Both are static: with another function the module has another graph definition, and the program compiled
for it holds the gradients of that column and nothing else. So a network needs no layer of ours.

What our methods do not compute stays as it is, and exact: convolutions with groups, with dilation, over one or three
axes, and those with a `precision` or a result type of their own. A linear layer over tokens `[N, T, C]` or pixels
`[N, H, W, C]` is a 1×1 convolution and has a number; over `[N, C]` there is nothing to choose from, and it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
from flax import nnx

from approxtrain.models.layer import ConvLayer
from approxtrain_kernels import Method, conv
from approxtrain_kernels.by_replica import ByReplica

M = TypeVar("M", bound=nnx.Module)
_GIVEN: ContextVar[tuple[jax.Array | None, jax.Array | None]] = ContextVar("key and places", default=(None, None))


@contextmanager
def drawing(key: jax.Array, places: jax.Array | None = None) -> Iterator[None]:
    """Random numbers for what is traced inside: each layer folds its number into `key`, which is new in each step.

    `places`: where replicas run different methods, one's own of each layer, int32 `[layers]` (`Schedule.places`).
    """
    token = _GIVEN.set((key, places))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def approximate(model: M, layers: Sequence[ConvLayer], column: Sequence[Method]) -> M:
    """A copy of `model`, with the same arrays, in which layer n has the gradients of column[n − 1].

    `layers` are the model's, by `conv_layers`. Methods that draw numbers take them from the key of `drawing`.
    ValueError where there are more or fewer methods than layers.
    """
    if len(column) != len(layers):
        raise ValueError(f"the column has {len(column)} methods, and the model has {len(layers)} layers.")
    model = nnx.clone(model)
    modules = modules_by_path(model)
    for layer, method in zip(layers, column, strict=True):
        module = modules[layer.path]
        if isinstance(module, nnx.Conv):
            module.conv_general_dilated = Convolution(layer.number, method)
        else:
            module.dot_general = Product(layer.number, method)
    return model


def modules_by_path(model: nnx.Module) -> dict[str, Any]:
    """Every module inside of `model`, each once: "stage1/0/conv2" → `model.stage1[0].conv2`."""
    nodes = nnx.iter_graph(model)
    return {"/".join(map(str, path)): node for path, node in nodes if isinstance(node, nnx.Module)}


@dataclass(frozen=True)
class Convolution:
    """In place of `lax.conv_general_dilated` in an `nnx.Conv`."""

    number: int
    method: Method

    def __call__(self, x: jax.Array, w: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
        return conv(x, w, strides=strides, padding=padding, method=self.method, key=_given_to(self.number, self.method))


@dataclass(frozen=True)
class Product:
    """In place of `lax.dot_general` in an `nnx.Linear` over tokens or pixels."""

    number: int
    method: Method

    def __call__(self, x: jax.Array, w: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
        image, kernel = as_convolution(x.shape, w.shape)
        y = conv(x.reshape(image), w.reshape(kernel), method=self.method, key=_given_to(self.number, self.method))
        return y.reshape(*x.shape[:-1], w.shape[-1])


def as_convolution(x: tuple[int, ...], w: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a linear layer's operands `[N, T, C]` or `[N, H, W, C]` and `[C, C']` as those of a 1×1 convolution."""
    return (x[0], x[1], 1 if len(x) == 3 else x[2], x[-1]), (1, 1, *w)


def _given_to(number: int, method: Method) -> Any:
    """The key of a layer whose method draws, and its place before it where replicas run different ones."""
    if not isinstance(method, ByReplica):
        return _key_of(number, method)
    _, places = _GIVEN.get()
    if places is None:
        raise ValueError(
            f"layer {number} is under other methods on other replicas ({method.label}): call the model inside of "
            "`with approxtrain.drawing(key, places):`, with the places of one's own replica in this step."
        )
    return places[number - 1], _key_of(number, method)


def _key_of(number: int, method: Method) -> jax.Array | None:
    if "key" not in method.needs:
        return None
    key, _ = _GIVEN.get()
    if key is None:
        raise ValueError(
            f"layer {number} is under {method.label}, which draws numbers: call the model inside of "
            "`with approxtrain.drawing(key):`, with a key that is new in each step."
        )
    return jax.random.fold_in(key, number)
