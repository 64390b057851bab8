"""Blocks that are left out of a network (`schedule/bypass.py`), and whether they may be."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from approxtrain.errors import ConfigError
from approxtrain.models.approximate import modules_by_path
from approxtrain.models.forward import forward

if TYPE_CHECKING:
    from approxtrain.models.catalog import Model

M = TypeVar("M", bound=nnx.Module)


def leave_out(network: M, blocks: Collection[str]) -> M:
    """`network` itself, with the same arrays, in which these modules return what they are given."""
    found = modules_by_path(network) if blocks else {}
    for path in blocks:
        object.__setattr__(found[path], "__class__", _as_called(type(found[path]), _first))
    return network


def _first(_: nnx.Module, x: jax.Array, *more: Any, **options: Any) -> jax.Array:
    return x


@cache
def _as_called(kind: type[nnx.Module], call: Callable[..., Any]) -> type[nnx.Module]:
    """The class with another `__call__`."""
    return type(kind.__name__, (kind,), {"__call__": call})


def refuse_unless_shortcuts(model: Model, blocks: Collection[str]) -> None:
    """ConfigError where a block, with its first weights, does not return what it is given.

    Validation, checkpoints and exports have the whole network, which must be the one that is trained.
    """
    network = model.build(rngs=nnx.Rngs(0))
    called: dict[str, tuple[Any, Any]] = {}
    for path, module in modules_by_path(network).items():
        if path in blocks:
            kind = type(module)

            def listening(self: nnx.Module, *given: Any, _path: str = path, _kind: Any = kind, **options: Any) -> Any:
                y = _kind.__call__(self, *given, **options)
                called[_path] = (given[0] if given else None, y)
                return y

            object.__setattr__(module, "__class__", type(kind.__name__, (kind,), {"__call__": listening}))
    graph, state = nnx.split(network)
    x = np.random.default_rng(0).standard_normal((2, *model.image_shape)).astype(np.float32)

    @jax.jit
    def pairs(state: nnx.State, x: jax.Array) -> dict[str, Any]:
        forward(nnx.merge(graph, state), x, training=True)
        return {path: jnp.array_equal(*pair) for path, pair in called.items() if _alike(*pair)}

    same = pairs(state, jnp.asarray(x))
    if problems := [
        f"`schedule.bypass`: {_why(path, called, same)}" for path in blocks if not (path in same and bool(same[path]))
    ]:
        raise ConfigError(problems)


def _alike(given: Any, y: Any) -> bool:
    return isinstance(given, jax.Array) and isinstance(y, jax.Array) and given.shape == y.shape


def _why(path: str, called: dict[str, tuple[Any, Any]], same: dict[str, Any]) -> str:
    if path not in called:
        return f"{path} is not called as a whole, so that it cannot be left out as a whole: name a block inside of it."
    if path not in same:
        given, y = (list(getattr(each, "shape", ())) for each in called[path])
        return f"{path} makes {y} of {given}, and only a block that changes no shape can be left out."
    return (
        f"{path} changes what it is given from the first step on, so that the network would jump when it comes in. A "
        "block can be left out if it begins as its shortcut: let its last scale begin at zero (of our networks for "
        "CIFAR by model.arguments={ zero_init = true }, or with a path of theirs; those for ImageNet do)."
    )
