"""The exact convolution and its two gradients, by whatever is fastest where the program runs.

    forward   y  = x ∗ w
    dgrad     dx = ∂L/∂x
    wgrad     dw = ∂L/∂w

On a CPU that is code of our own (`native`), where it can be made; elsewhere XLA's own convolutions in the one form that
is fast everywhere (`canonical`), which a GPU's compiler turns into cuDNN's calls.

The three are bilinear, and each is a derivative of the others: of L = Σ dy · (x ∗ w) they are the gradients for dy, x
and w. So they have derivatives of every order, forward and reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from approxtrain_kernels import canonical, native
from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.primitives import compute_by_a_program, one_by_one, varying_alike

bilinear_p = Primitive("approxtrain_convolution")
"""`kind` ("forward", "dgrad" or "wgrad") of two float32 arrays."""


def forward(x: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """y `[N, Ho, Wo, Co]` from x `[N, H, W, Ci]` and w `[Kh, Kw, Ci, Co]`."""
    return _fastest("forward", x, w, shape)


def dgrad(dy: jax.Array, w: jax.Array, shape: ConvShape) -> jax.Array:
    """dx `[N, H, W, Ci]` from dy `[N, Ho, Wo, Co]` and w."""
    return _fastest("dgrad", dy, w, shape)


def wgrad(x: jax.Array, dy: jax.Array, shape: ConvShape) -> jax.Array:
    """dw `[Kh, Kw, Ci, Co]` from x and dy."""
    if shape.y_shape[1:3] == (1, 1) and not any(hi or lo for lo, hi in shape.padding):
        kh, kw = shape.kernel_size  # one output pixel sees every pixel through a tap of its own: one product
        return (x[:, :kh, :kw].reshape(shape.batch, -1).T @ dy.reshape(shape.batch, -1)).reshape(shape.w_shape)
    return _fastest("wgrad", x, dy, shape)


def _fastest(kind: str, a: jax.Array, b: jax.Array, shape: ConvShape) -> jax.Array:
    if not native.computes(shape, a.dtype):
        return _by_xla(kind, shape)(a, b)
    return bilinear_p.bind(*varying_alike(jnp.asarray(a), jnp.asarray(b)), kind=kind, shape=shape)


def _by_xla(kind: str, shape: ConvShape) -> Callable[..., jax.Array]:
    return partial(getattr(canonical, kind), shape=shape)


def _by_platform(a, b, *, kind: str, shape: ConvShape) -> jax.Array:
    """Traced when a program is lowered, for one platform mostly: the other branch is then not in it."""
    ours = partial(getattr(native, kind), shape=shape)
    return lax.platform_dependent(a, b, cpu=ours, default=_by_xla(kind, shape))


@bilinear_p.def_abstract_eval
def _result(a, b, *, kind, shape):
    return jax.make_jaxpr(_by_xla(kind, shape))(a, b).out_avals[0]


def _batched(operands, dims, *, kind, shape):
    """`vmap`: one call after the other on a CPU, each with all threads; elsewhere whatever XLA makes of it."""
    in_turn = partial(one_by_one, partial(bilinear_p.bind, kind=kind, shape=shape), dims)
    at_once = jax.vmap(_by_xla(kind, shape), in_axes=tuple(dims))
    return lax.platform_dependent(*operands, cpu=in_turn, default=at_once), 0


def _for_first(cotangent, _, b, *, kind, shape):
    """The cotangent of x or dy, from that of the result and from the second operand."""
    if kind == "forward":
        return dgrad(cotangent, b, shape)  # of x
    if kind == "dgrad":
        return forward(cotangent, b, shape)  # of dy
    return dgrad(b, cotangent, shape)  # of x


def _for_second(cotangent, a, _, *, kind, shape):
    """The cotangent of w or dy, from that of the result and from the first operand."""
    if kind == "forward":
        return wgrad(a, cotangent, shape)  # of w
    if kind == "dgrad":
        return wgrad(cotangent, a, shape)  # of w
    return forward(a, cotangent, shape)  # of dy


compute_by_a_program(bilinear_p)
ad.defbilinear(bilinear_p, _for_first, _for_second)
batching.primitive_batchers[bilinear_p] = _batched
mlir.register_lowering(bilinear_p, mlir.lower_fun(_by_platform, multiple_results=False))
