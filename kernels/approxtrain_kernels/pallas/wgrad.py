"""`approx` on a GPU: dW by the plan that the model of `choose` holds for the fastest, and where that may run.

Where is decided when a program is lowered: only then is its platform known for sure. A program for a GPU can be traced
and lowered on a machine without one, so a look at this process's devices would be wrong. `lax.platform_dependent` keeps
one of its branches; the one for all platforms but CUDA is an operation that cannot be lowered, and says so.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from approxtrain_kernels import dense, sparse
from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.pallas.choose import choose
from approxtrain_kernels.pallas.gather import fused, gather
from approxtrain_kernels.pallas.model import DEFAULT, ITEMSIZE, MOST_ROUNDS, Device, Plan, device_of
from approxtrain_kernels.pallas.select import select
from approxtrain_kernels.pallas.tensor import tensor

ALLOW_TF32 = (None, "default", "fastest", "high", "tensorfloat32", "bfloat16")
"""Values of `jax_default_matmul_precision` under which XLA multiplies float32 as TF32 on a GPU."""


def estimate(
    x: jax.Array,
    dy: jax.Array,
    shape: ConvShape,
    k: int,
    *,
    interpret: bool = False,
    plan: Plan | None = None,
) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` in float32 of x `[N, H, W, Ci]` and the k largest entries a plane of dy `[N, Ho, Wo, Co]`.

    By `plan`, or by the best for this process: its GPU, or DEFAULT where it has none, and jax's precision of products.
    """
    if plan is None:
        config: Any = jax.config
        tf32 = config.jax_default_matmul_precision in ALLOW_TF32
        plan = choose(shape, k, x.dtype.name, tf32=tf32, device=device())
    return _by_plan(x, dy, shape, k, plan, interpret)


def device() -> Device:
    """This process's GPU, or DEFAULT."""
    return device_of(jax.devices()[0].device_kind) if jax.default_backend() == "gpu" else DEFAULT


@partial(jax.jit, static_argnums=(2, 3, 4, 5))  # layers of one shape share one trace
def _by_plan(x: jax.Array, dy: jax.Array, shape: ConvShape, k: int, plan: Plan, interpret: bool) -> jax.Array:
    if k >= shape.y_shape[1] * shape.y_shape[2]:
        return dense.wgrad(x, dy, shape).astype(jnp.float32)
    if plan.form == "fused" and plan.blocks:
        return fused(x, dy, shape, k, plan.blocks, interpret=interpret)
    if k > MOST_ROUNDS:
        position, value = sparse.select_top(dy, k)
    else:
        position, value = select(dy, shape, k, interpret=interpret)
    if plan.blocks is None:
        return sparse.dense_form(x, position, value, shape)
    fetch = tensor if plan.form == "tensor" else gather
    return fetch(x, position, value, shape, plan.blocks, interpret=interpret)


def where_they_run(x: jax.Array, dy: jax.Array, shape: ConvShape, k: int, otherwise: Any) -> jax.Array:
    """`estimate` where the program is for CUDA and the kernels know its dtype; elsewhere `otherwise(x, dy)`."""
    if not supports(x.dtype.name):
        return otherwise(x, dy)
    return lax.platform_dependent(x, dy, cuda=partial(estimate, shape=shape, k=k), default=otherwise)


def or_refused(x: jax.Array, dy: jax.Array, shape: ConvShape, k: int, implementation: str) -> jax.Array:
    """`estimate` by "pallas" or "pallas-interpret". ValueError where that cannot be."""
    if not supports(x.dtype.name):
        raise ValueError(
            f"`implementation` (={implementation!r}) has kernels for float32, bfloat16 and float16, on NVIDIA GPUs "
            f"from Ampere on; this is {x.dtype.name}, or an older GPU: take 'xla', or None for the fastest here."
        )
    if implementation == "pallas-interpret":
        return estimate(x, dy, shape, k, interpret=True)
    return where_they_run(x, dy, shape, k, lambda x, dy: _refused.bind(x, dy, out_shape=shape.w_shape))


def supports(dtype: str) -> bool:
    """Whether the kernels take this dtype and, if this process has an NVIDIA GPU, run on it: Triton needs Ampere."""
    if jax.default_backend() == "gpu":
        capability = getattr(jax.devices()[0], "compute_capability", None)  # "9.0"
        if capability is not None and int(str(capability).partition(".")[0]) < 8:
            return False
    return dtype in ITEMSIZE


_refused = Primitive("approx_pallas_is_for_cuda")


@_refused.def_abstract_eval
def _shape(x: Any, dy: Any, *, out_shape: tuple[int, ...]) -> ShapedArray:
    return ShapedArray(out_shape, jnp.float32)


def _refuse(platforms: Any) -> ValueError:
    return ValueError(
        f"`implementation` (='pallas') has kernels for NVIDIA GPUs only, and this program is for "
        f"{'/'.join(platforms)}. Take 'pallas-interpret' to run the same kernels here, slowly, or 'xla' or None for "
        "what is fast here."
    )


@_refused.def_impl
def _run(*_: Any, **__: Any) -> Any:
    raise _refuse([jax.default_backend()])


def _lower(context: Any, *_: Any, **__: Any) -> Any:
    raise _refuse(context.module_context.platforms)


def _batched(arrays: Any, axes: Any, *, out_shape: tuple[int, ...]) -> Any:
    size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
    return _refused.bind(*arrays, out_shape=(size, *out_shape)), 0


mlir.register_lowering(_refused, _lower)
batching.primitive_batchers[_refused] = _batched
