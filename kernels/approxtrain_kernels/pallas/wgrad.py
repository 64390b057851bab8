"""`approx` on a GPU: dW by the plan that the model of `choose` holds for the fastest, or by one that is given."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain_kernels import dense, sparse
from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.pallas import choose
from approxtrain_kernels.pallas.devices import DEFAULT, Device, device_of
from approxtrain_kernels.pallas.gather import fused, gather
from approxtrain_kernels.pallas.model import MOST_ROUNDS
from approxtrain_kernels.pallas.plan import Plan
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
    form: str | None = None,
    plan: Plan | None = None,
) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` in float32 of x `[N, H, W, Ci]` and the k largest entries a plane of dy `[N, Ho, Wo, Co]`.

    By `plan`, or by the best plan of one `form` out of `choose.FORMS`, or by the best of all. ValueError where there
    is no such form for this layer.
    """
    if plan is None:
        plan = planned(shape, k, x.dtype.name, form)
    return _by_plan(x, dy, shape, k, plan, interpret)


def planned(shape: ConvShape, k: int, dtype: str, form: str | None = None) -> Plan:
    """The plan for this process: its GPU, or DEFAULT where it has none, and jax's precision of products."""
    config: Any = jax.config
    precision = config.jax_default_matmul_precision
    model = {"tf32": precision in ALLOW_TF32, "device": device()}
    if form is None:
        return choose.choose(shape, k, dtype, **model)
    plans = {plan.form: plan for plan in choose.plans(shape, k, dtype, **model)}
    if form not in plans:
        raise ValueError(
            f"`form` (={form!r}) must be one of {', '.join(plans)}, the forms of approx there are for this layer, "
            f"k (={k}), {dtype} and jax_default_matmul_precision (={precision!r})."
        )
    return plans[form]


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
