"""A network without a block is the whole one as long as that block is its shortcut; others are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.models.bypass import leave_out, refuse_unless_shortcuts
from approxtrain.models.forward import forward
from approxtrain.training.moved import by_path
from tests.networks import Residual

RESIDUAL = Model("residual", "", "tests.networks:Residual", image_shape=(8, 8, 3))


def outcome(blocks: tuple[str, ...]):
    """Logits, gradients by parameter, statistics."""
    graph, params, rest = nnx.split(Residual(10, rngs=nnx.Rngs(0)), nnx.Param, ...)
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))

    @partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        network = leave_out(nnx.merge(graph, params, rest, copy=True), blocks)
        logits = forward(network, x, training=True)
        return jnp.square(logits - 1).mean(), (logits, nnx.split(network, nnx.Param, ...)[2])

    (_, (logits, stats)), gradient = jax.jit(loss)(params)
    return logits, by_path(nnx.to_pure_dict(gradient)), by_path(nnx.to_pure_dict(stats))


def test_neither_its_output_nor_the_gradient_of_another_parameter_changes():
    (whole, right, stats), (logits, gradient, ours) = outcome(()), outcome(("blocks/0",))
    np.testing.assert_allclose(logits, whole, rtol=1e-6, atol=1e-7)
    assert gradient.keys() == right.keys()
    given_up = set()
    for name, of_whole in right.items():
        if not name.startswith("blocks/0/"):
            np.testing.assert_allclose(gradient[name], of_whole, rtol=1e-5, atol=1e-7, err_msg=name)
        else:
            assert not gradient[name].any()
            given_up |= {name} if of_whole.any() else set()
    assert given_up == {"blocks/0/norm2/scale", "blocks/0/norm2/bias"}
    assert ours.keys() == stats.keys()
    assert {name for name in stats if not np.allclose(ours[name], stats[name], rtol=1e-5)} == {
        f"blocks/0/norm{number}/{name}" for number in (1, 2) for name in ("mean", "var")
    }


def test_its_convolutions_are_gone():
    def convolutions(blocks: tuple[str, ...]) -> int:
        graph, state = nnx.split(Residual(10, rngs=nnx.Rngs(0)))
        network = lambda state, x: forward(leave_out(nnx.merge(graph, state), blocks), x, training=True)  # noqa: E731
        text = jax.jit(network).lower(state, jnp.zeros((2, 8, 8, 3))).as_text()
        return text.count("stablehlo.convolution")

    assert (convolutions(()), convolutions(("blocks/0",))) == (5, 3)


def test_blocks_that_begin_as_their_shortcut_are_accepted():
    refuse_unless_shortcuts(RESIDUAL, ["blocks/0"])
    refuse_unless_shortcuts(models.get("resnet18-small"), ["stage2/1"])
    some = {"depth": 14, "zero_init": "stage?/1"}
    small = replace(models.get("resnet14"), arguments=some, image_shape=(8, 8, 3))
    refuse_unless_shortcuts(small, ["stage1/1", "stage3/1"])
    with pytest.raises(ConfigError, match="stage1/0 changes what it is given"):
        refuse_unless_shortcuts(small, ["stage1/0"])


@pytest.mark.parametrize(
    ("model", "block", "words"),
    [
        (RESIDUAL, "blocks/1", r"blocks/1 makes \[2, 4, 4, 16\] of \[2, 8, 8, 8\], and only a block that changes no"),
        (RESIDUAL, "blocks", "blocks is not called as a whole"),
        (models.get("resnet14"), "stage1/1", "stage1/1 changes what it is given from the first step on"),
    ],
    ids=["another shape", "a list of blocks", "no shortcut at first"],
)
def test_what_would_change_the_network_is_refused(model, block, words):
    with pytest.raises(ConfigError, match=words) as error:
        refuse_unless_shortcuts(model, [block])
    assert error.value.problems[0].startswith("`schedule.bypass`: ")
