"""What each of several replicas has to send for the mean of their gradients, and how it is weighed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from approxtrain.models import ConvLayer
from approxtrain.models.approximate import modules_by_path
from approxtrain.schedule import Column
from approxtrain.schedule.frozen_prefix import frozen_parts
from approxtrain.training.moved import by_path, path_of
from approxtrain.training.step import Task
from approxtrain_kernels.by_replica import ByReplica

T = TypeVar("T")


def mean_gradient(layers: Sequence[ConvLayer], column: Column, gradient: T, axis: str) -> T:
    """Over the replicas along an axis of a `shard_map`, of what each has of its own images; of the weight of a layer
    whose replicas run different methods, over those that give a gradient. `layers` are the model's, by `conv_layers`.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(gradient)
    names = [path_of(path).removesuffix("/value") for path, _ in leaves]  # as nnx.State has its leaves
    found = weighed(layers, column, dict(zip(names, (leaf for _, leaf in leaves), strict=True)))
    return tree.unflatten(lax.pmean([found[name] for name in names], axis))


def weighed(layers: Sequence[ConvLayer], column: Column, gradient: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Gradients by parameter, so weighed that their mean over all replicas is that over those that have one."""
    weights = {
        f"{layer.path}/kernel": method.replicas / method.contributors
        for layer, method in zip(layers, column, strict=True)
        if isinstance(method, ByReplica) and method.gives_gradient
    }
    return gradient | {name: weight * gradient[name] for name, weight in weights.items()}


def known_everywhere(
    task: Task, column: Column, names: Iterable[str], *, frozen_prefix: bool = False, blocks: Collection[str] = ()
) -> set[str]:
    """The parameters whose gradient no image has a part in, so that every replica has it and it need not be sent."""
    layers = task.model.layers
    parts = tuple(f"{path}/" for path in (*(frozen_parts(layers, column) if frozen_prefix else ()), *blocks))
    of_no_image = {
        f"{layer.path}/kernel" for layer, method in zip(layers, column, strict=True) if method.known_everywhere
    }
    return {name for name in names if name in of_no_image or (parts and name.startswith(parts))}


def own_statistics(task: Task) -> set[str]:
    """What modules that are no `nnx.BatchNorm` hold besides parameters: nothing makes these look at all images."""
    network = nnx.eval_shape(lambda: task.model.build(rngs=nnx.Rngs(0), dtype=jnp.float32))
    norms = {path for path, module in modules_by_path(network).items() if isinstance(module, nnx.BatchNorm)}
    _, _, _, stats = nnx.split(network, nnx.Param, nnx.RngState, ...)
    return {name for name in by_path(nnx.to_pure_dict(stats)) if name.rpartition("/")[0] not in norms}
