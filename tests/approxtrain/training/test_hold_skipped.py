"""`skip` in a loop of one's own: weights and moments stay, bit for bit, whatever an optimiser makes of a zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from approxtrain import conv_layers, hold_skipped
from approxtrain.training.moved import by_path
from approxtrain_kernels.methods import make
from tests.networks import Small

FULL, SKIP = make("full"), make("skip")


@pytest.fixture(scope="module")
def model():
    network = Small(classes=4, rngs=nnx.Rngs(0))
    return network, conv_layers(network, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)).numbered


def updated(params):
    """(before, after) a second step of adamw with momentum, by a gradient of ones and then of zeros."""
    optimizer = optax.adamw(0.1, weight_decay=0.1)
    state = optimizer.init(params)
    for gradient in (jax.tree.map(jnp.ones_like, params), jax.tree.map(jnp.zeros_like, params)):
        before = params, state
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return before, (params, state)


@pytest.mark.parametrize("as_dict", [False, True])
def test_skipped_weights_and_their_moments_stay_and_all_else_moves(model, as_dict):
    network, layers = model
    params = nnx.state(network, nnx.Param)
    old, new = updated(nnx.to_pure_dict(params) if as_dict else params)
    column = [SKIP if layer.number == 2 else FULL for layer in layers]
    kept = f"{layers[1].path}/kernel"
    before, after, found = map(by_path, (old, new, hold_skipped(layers, [column], new, old)))
    still = [name for name in found if f"/{kept}/" in f"{name}/"]
    assert len(still) == 3  # itself and two moments
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, (before if name in still else after)[name])
        assert name == "1/0/count" or not np.array_equal(before[name], after[name])


def test_behind_a_switch_it_is_that_of_the_column_at_the_index(model):
    network, layers = model
    old, new = updated(nnx.state(network, nnx.Param))
    columns = [[FULL] * len(layers), [SKIP] * len(layers)]
    held = jax.jit(lambda index, new, old: hold_skipped(layers, columns, new, old, index))
    for index, right in ((0, new), (1, hold_skipped(layers, columns[1:], new, old))):
        for ours, theirs in zip(jax.tree.leaves(held(index, new, old)), jax.tree.leaves(right), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_without_skip_nothing_is_looked_at(model):
    network, layers = model
    old, new = updated(nnx.state(network, nnx.Param))
    assert hold_skipped(layers, [[FULL] * len(layers)], new, old) is new
