"""Calling a kernel from a jax program: nothing is compiled before the program is lowered for a CPU.

Where a batch is sharded over several devices, each of them computes with the images that it has (`_sharded`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from approxtrain_kernels.native import ffi
from approxtrain_kernels.native.kernel import Kernel
from approxtrain_kernels.primitives import compute_by_a_program, one_by_one, varying_alike

call_p = Primitive("approxtrain_native")
"""The result of `kernel` from its two operands; with `sharded`, of a batch that may lie on several devices."""


def call(kernel: Kernel, a: jax.Array, b: jax.Array) -> jax.Array:
    """The kernel's result. ValueError for operands of another type or shape: the code trusts its pointers."""
    for operand, (name, size) in zip((a, b), kernel.operands.items(), strict=True):
        if operand.shape != size or operand.dtype != jnp.float32:
            given, needed = f"{operand.dtype} of {operand.shape}", f"float32 of {size}"
            raise ValueError(f"`{name}` is {given}; for this convolution it must be {needed}.")
    return call_p.bind(*varying_alike(a, b), kernel=kernel, sharded=True)


def _compute(a: jax.Array, b: jax.Array, *, kernel: Kernel) -> jax.Array:
    """Traced when a program is lowered for a CPU: here the kernel is compiled."""
    results = (jax.ShapeDtypeStruct(kernel.result, jnp.float32), jax.ShapeDtypeStruct((kernel.workspace,), jnp.float32))
    return jax.ffi.ffi_call(ffi.target(kernel), results)(a, b)[0]


def _lower(context, a, b, *, kernel: Kernel, sharded: bool):
    several = _of_several_devices(context) if sharded else None
    function = partial(_compute, kernel=kernel) if several is None else _sharded(kernel)
    return mlir.lower_fun(function, multiple_results=False)(several or context, a, b)


def _of_several_devices(context):
    """The context of a program that XLA's partitioner divides between devices; None where it divides nothing.

    `custom_partitioning` wants to know the devices, which jax tells only to primitives of its own. How many there are
    is what matters: the partitioner numbers them, and which they are is decided when the program is loaded.
    """
    axes = context.module_context.axis_context
    if getattr(axes, "num_devices", 1) == 1 or not hasattr(axes, "device_assignment"):
        return None
    if axes.device_assignment is None:
        axes = replace(axes, device_assignment=tuple(jax.devices("cpu")[: axes.num_devices]))
    return context.replace(module_context=context.module_context.replace(axis_context=axes))


@cache
def _sharded(kernel: Kernel) -> custom_partitioning:
    """The kernel as XLA's partitioner is told of it: by shares of the images, which for a sum are then added up."""

    @custom_partitioning
    def whole(a, b):
        return call_p.bind(a, b, kernel=kernel, sharded=False)

    def partition(_, operands, __):
        mesh = _mesh_of_shares(kernel, operands)
        replicated, by_images = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("images",)))
        share = replace(kernel, shape=replace(kernel.shape, batch=kernel.shape.batch // mesh.shape["images"]))

        def compute(a, b):
            result = call_p.bind(a, b, kernel=share, sharded=False)
            return lax.psum(result, "images") if kernel.sums_over_batch else result

        if kernel.sums_over_batch:
            return mesh, compute, replicated, (by_images, by_images)
        return mesh, compute, by_images, (by_images, replicated)

    rule = "n a b c, n d e f -> g h i j" if kernel.sums_over_batch else "n a b c, d e f g -> n h i j"
    whole.def_partition(
        partition,
        sharding_rule=rule,
        reduction_factors=("n",) if kernel.sums_over_batch else (),
        need_replication_factors=tuple("abcdefghij"),  # in the order of the rule
    )
    return whole


def _mesh_of_shares(kernel: Kernel, operands) -> Mesh:
    """The devices, in their order, as a mesh whose axis "images" is the one over which an operand's batch is spread.

    That axis has one device where the batch is not spread, or in no such order: then each computes with all images.
    """
    devices: list[Any] = []
    for operand in operands if kernel.sums_over_batch else operands[:1]:
        devices, first_images = _first_images(operand)
        shares = len(set(first_images))
        inner = next((k for k, first in enumerate(first_images) if first != first_images[0]), 1)
        share = kernel.shape.batch // shares
        if shares > 1 and first_images == [k // inner % shares * share for k in range(len(devices))]:
            return Mesh(np.array(devices).reshape(-1, shares, inner), ("outer", "images", "inner"))
    return Mesh(np.array(devices).reshape(-1, 1, 1), ("outer", "images", "inner"))


def _first_images(operand) -> tuple[list[Any], list[int]]:
    """The devices of an operand, and the first image that each has."""
    try:
        places = operand.sharding.devices_indices_map(operand.shape)  # device → a slice of each axis
    except ValueError:  # an axis that the devices do not divide
        devices = sorted(operand.sharding.device_set, key=lambda device: device.id)
        return devices, [0] * len(devices)
    return list(places), [place[0].start or 0 for place in places.values()]


@call_p.def_abstract_eval
def _result(a, b, *, kernel, sharded):
    return a.update(shape=kernel.result, dtype=jnp.dtype("float32"), weak_type=False)


def _batched(operands, dims, **static):
    return one_by_one(partial(call_p.bind, **static), dims, *operands), 0


def _refuse_derivative(*_, kernel, **__):
    raise NotImplementedError(
        f"the kernel `{kernel.name}` has no derivative: of a weight gradient that is approximated there is none. "
        "Differentiate `approxtrain_kernels.dense`'s functions, which are exact."
    )


compute_by_a_program(call_p)
batching.primitive_batchers[call_p] = _batched
ad.primitive_jvps[call_p] = _refuse_derivative
ad.primitive_transposes[call_p] = _refuse_derivative
mlir.register_lowering(call_p, _lower, platform="cpu")
