"""Our own code on four CPU devices: `shard_map`, and batches that are sharded under `jit`.

This file is a program too (`tests/devices.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from approxtrain_kernels import canonical, conv, conv_shape, dense, native
from tests.devices import Checks

pytestmark = [
    pytest.mark.gate,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]

SHAPE = conv_shape((8, 7, 6, 5), 8, (3, 3), (2, 1))
OF_ONE = conv_shape((2, 7, 6, 5), 8, (3, 3), (2, 1))
SIZES = {"x": SHAPE.x_shape, "w": SHAPE.w_shape, "dy": SHAPE.y_shape}
KINDS = {"forward": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("x", "dy")}


def arrays(*names: str) -> list[jax.Array]:
    return [jnp.asarray(np.random.default_rng(len(name)).standard_normal(SIZES[name], np.float32)) for name in names]


def close(results, expected) -> None:
    for result, right in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(result, right, rtol=0, atol=1e-5 * np.abs(right).max())


def mesh(*sizes: int) -> Mesh:
    return Mesh(np.array(jax.devices()).reshape(sizes), ("a", "b")[: len(sizes)])


def loss(run) -> Callable:
    return lambda x, w, dy: jnp.sum(jnp.sin(run(x, w)) * dy)


def by_xla(x, w):
    return canonical.forward(x, w, SHAPE)


def in_shard_map(run: Callable, checked: bool) -> None:
    """Forward and gradients of images that are spread, and weights that all devices have."""
    x, w, dy = arrays("x", "w", "dy")
    mapped = partial(jax.shard_map, mesh=mesh(4), check_vma=checked)
    forward = jax.jit(mapped(run, in_specs=(P("a"), P()), out_specs=P("a")))
    close(forward(x, w), by_xla(x, w))

    def gradients(x, w, dy):
        dx, dw = jax.grad(loss(run), (0, 1))(x, w, dy)
        return dx, dw if checked else lax.psum(dw, "a")  # checked, jax knows itself that w is everyone's

    spread = jax.jit(mapped(gradients, in_specs=(P("a"), P(), P("a")), out_specs=(P("a"), P())))
    close(spread(x, w, dy), jax.grad(loss(by_xla), (0, 1))(x, w, dy))


def bare(x, w):
    return dense.forward(x, w, OF_ONE)


def seam(x, w):
    return conv(x, w, strides=SHAPE.strides, padding=SHAPE.padding)


def sharded(kind: str, sizes: tuple[int, ...], spec: P, share: int, operations: set[str]) -> None:
    """Under `jit`: each device computes with `share` images, and nothing is sent but what `operations` say."""
    run = partial(getattr(native, kind), shape=SHAPE)
    names = KINDS[kind]
    whole = arrays(*names)
    placed = [
        jax.device_put(array, NamedSharding(mesh(*sizes), P() if name == "w" else spec))
        for array, name in zip(whole, names, strict=True)
    ]
    program = jax.jit(run).lower(*placed).compile()
    result = program(*placed)
    close(result, getattr(canonical, kind)(*whole, SHAPE))
    text = program.as_text()
    assert set(re.findall(rf"approxtrain_{kind}_(\d+)_7_6_5_", text)) == {str(share)}
    assert set(re.findall(r"all-gather|all-reduce|all-to-all|collective-permute", text)) == operations
    assert result.sharding.spec == (P() if kind == "wgrad" else spec)


def several_axes(kind: str) -> None:
    sums = {"all-reduce"} if kind == "wgrad" else set()
    sharded(kind, (4,), P("a"), 2, sums)
    sharded(kind, (2, 2), P(("a", "b")), 2, sums)
    sharded(kind, (2, 2), P("a"), 4, sums)
    sharded(kind, (2, 2), P("b"), 4, sums)


def other_orders_are_gathered() -> None:
    sharded("forward", (2, 2), P(("b", "a")), 8, {"all-gather"})


def gradients_of_a_sharded_batch() -> None:
    x, w, dy = arrays("x", "w", "dy")
    by_images, everywhere = (NamedSharding(mesh(4), spec) for spec in (P("a"), P()))
    placed = [jax.device_put(array, where) for array, where in ((x, by_images), (w, everywhere), (dy, by_images))]
    run = partial(conv, strides=SHAPE.strides, padding=SHAPE.padding)
    program = jax.jit(jax.grad(loss(run), (0, 1))).lower(*placed).compile()
    close(program(*placed), jax.grad(loss(by_xla), (0, 1))(x, w, dy))
    text = program.as_text()
    for kind in KINDS:
        assert f"approxtrain_{kind}_2_" in text
    assert "all-gather" not in text


def approximated_and_pooled() -> None:
    x, dy = arrays("x", "dy")
    placed = [jax.device_put(array, NamedSharding(mesh(4), P("a"))) for array in (x, dy)]
    for run in (
        partial(native.topk_wgrad, shape=SHAPE, gather=True),
        partial(native.topk_wgrad, shape=SHAPE, gather=False),
        partial(native.wgrad, shape=SHAPE, r=2),
    ):
        program = jax.jit(run).lower(*placed).compile()
        close(program(*placed), run(x, dy))
        assert "all-gather" not in program.as_text()


def batches_that_the_devices_do_not_divide() -> None:
    x, w = arrays("x", "w")
    placed = [jax.device_put(array, NamedSharding(mesh(4), spec)) for array, spec in ((x, P("a")), (w, P()))]
    of_six = conv_shape((6, 7, 6, 5), 8, (3, 3), (2, 1))
    close(jax.jit(lambda x, w: dense.forward(x[:6], w, of_six))(*placed), canonical.forward(x[:6], w, of_six))


def explicit_axes() -> None:
    """Where types say how arrays are sharded, a forward keeps it; a wgrad is refused by jax, XLA's own too."""
    x, w, dy = arrays("x", "w", "dy")
    with jax.set_mesh(jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Explicit,))):
        x_spread, dy_spread, w_everywhere = (
            jax.device_put(x, P("a")),
            jax.device_put(dy, P("a")),
            jax.device_put(w, P()),
        )
        y = jax.jit(lambda x, w: dense.forward(x, w, SHAPE))(x_spread, w_everywhere)
        assert jax.typeof(y).sharding.spec[0] == "a"
        close(y, by_xla(x, w))
        for wgrad in (dense.wgrad, canonical.wgrad):
            with pytest.raises(Exception, match="out_sharding"):
                jax.jit(partial(wgrad, shape=SHAPE))(x_spread, dy_spread)


CHECKS = {
    **{
        f"shard_map of {run.__name__}, check_vma={checked}": partial(in_shard_map, run, checked)
        for run in (bare, seam)
        for checked in (True, False)
    },
    **{f"sharded {kind}": partial(several_axes, kind) for kind in KINDS},
    "other orders are gathered": other_orders_are_gathered,
    "gradients of a sharded batch": gradients_of_a_sharded_batch,
    "approximated and pooled": approximated_and_pooled,
    "batches that the devices do not divide": batches_that_the_devices_do_not_divide,
    "explicit axes": explicit_axes,
}
ALL = Checks(__file__, 4, CHECKS)


@pytest.mark.parametrize("name", ALL.parameters)
def test_on_four_devices(name):
    assert ALL.wrong(name) == ""


if __name__ == "__main__":
    ALL.main()
