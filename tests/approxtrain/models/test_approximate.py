"""A network that knows nothing of us under a column of a schedule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from approxtrain.models import Model
from approxtrain.models.approximate import approximate, drawing
from approxtrain.models.conv_layers import conv_layers
from approxtrain.models.forward import forward
from approxtrain_kernels import weight_gradient
from approxtrain_kernels.methods import make
from tests.networks import Every, Small

EVERY = Model("every", "", "tests.networks:Every", image_shape=(8, 8, 3))


def gradients(network, x, key=None):
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    def loss(params):
        return jnp.square(forward(nnx.merge(graph, params, rest, copy=True), x, training=True)).sum()

    with drawing(jax.random.key(3) if key is None else key):
        return nnx.to_pure_dict(jax.grad(loss)(params))


def test_a_schedule_reaches_plain_convolutions_and_linear_layers_over_pixels_and_tokens():
    assert [(layer.number, layer.path) for layer in EVERY.layers] == [(1, "plain"), (2, "pixels"), (3, "tokens")]
    assert EVERY.layers[1].shape.x_shape == (1, 16, 16, 8)
    assert EVERY.layers[2].shape.x_shape == (1, 256, 1, 8)
    assert EVERY.found.exact == {
        "up": "a transposed convolution",
        "grouped": "in 4 groups",
        "dilated": "dilated",
        "precise": "with a `precision` of its own",
        "line": "a convolution over 1 axis",
    }


def test_layers_come_in_the_order_of_the_forward_pass_whatever_the_order_of_their_making():
    class Backwards(nnx.Module):
        def __init__(self, rngs):
            self.b, self.a = nnx.Conv(3, 3, (3, 3), rngs=rngs), nnx.Conv(3, 3, (3, 3), rngs=rngs)

        def __call__(self, x):
            return self.b(self.a(self.a(x)))

    layers = conv_layers(Backwards(nnx.Rngs(0)), jnp.zeros((4, 8, 8, 3))).numbered
    assert [(layer.number, layer.path, layer.shape.batch) for layer in layers] == [(1, "a", 1), (2, "b", 1)]


def test_under_full_the_gradients_are_those_of_flax():
    network, x = Small(10, rngs=nnx.Rngs(0)), jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    layers = conv_layers(network, x).numbered
    ours, theirs = gradients(approximate(network, layers, [make("full")] * 3), x), gradients(network, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max()), ours, theirs)


def test_each_layer_has_its_own_method_and_what_stays_exact_is_exact():
    network, x = EVERY.build(rngs=nnx.Rngs(0)), jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    column = [make("zero"), make("approx"), make("full")]
    ours, theirs = gradients(approximate(network, EVERY.layers, column), x), gradients(network, x)
    assert not np.asarray(ours["plain"]["kernel"]).any()
    same = {name for name in ours if np.allclose(ours[name]["kernel"], theirs[name]["kernel"], rtol=1e-3, atol=1e-4)}
    assert same == set(ours) - {"plain", "pixels"}


def test_a_linear_layer_over_pixels_has_the_gradient_of_a_1x1_convolution():
    class Pixels(nnx.Module):
        def __init__(self, rngs):
            self.mix = nnx.Linear(6, 5, use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.mix(x)

    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 6))
    network = Pixels(nnx.Rngs(0))
    layers = conv_layers(network, x).numbered
    found = gradients(approximate(network, layers, [make("approx", k=2)]), x)["mix"]["kernel"]
    dy = 2 * network(x)
    expected = weight_gradient(x, dy, kernel_size=(1, 1), method="approx", k=2)[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_model_itself_stays_as_it_was_and_keeps_its_arrays():
    network = Small(10, rngs=nnx.Rngs(0))
    layers = conv_layers(network, jnp.zeros((1, 8, 8, 3))).numbered
    copy = approximate(network, layers, [make("zero")] * 3)
    assert network.first.conv_general_dilated is jax.lax.conv_general_dilated
    assert copy.first.kernel[...] is network.first.kernel[...]
    again = conv_layers(copy, jnp.zeros((1, 8, 8, 3))).numbered
    assert again == layers


def test_two_columns_are_two_graph_definitions_and_the_same_one_is_equal():
    network = Small(10, rngs=nnx.Rngs(0))
    layers = conv_layers(network, jnp.zeros((1, 8, 8, 3))).numbered
    one, same, other = (
        nnx.split(approximate(network, layers, [make(name)] * 3))[0] for name in ("zero", "zero", "approx")
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


def test_each_layer_draws_numbers_of_its_own_from_a_key_that_must_be_given():
    network, x = Small(10, rngs=nnx.Rngs(0)), jnp.ones((2, 8, 8, 3))
    layers = conv_layers(network, x).numbered
    drawn = approximate(network, layers, [make("random")] * 3)
    found = gradients(drawn, x, jax.random.key(0))
    assert not np.allclose(found["second"]["kernel"], found["third"]["kernel"])
    assert not np.allclose(found["second"]["kernel"], gradients(drawn, x, jax.random.key(1))["second"]["kernel"])
    with pytest.raises(ValueError, match=r"layer 1 is under random, which draws numbers: .*approxtrain.drawing\(key\)"):
        drawn(x)


def test_a_column_of_another_length_is_an_error():
    network = Small(10, rngs=nnx.Rngs(0))
    layers = conv_layers(network, jnp.zeros((1, 8, 8, 3))).numbered
    with pytest.raises(ValueError, match="the column has 2 methods, and the model has 3 layers"):
        approximate(network, layers, [make("full")] * 2)


def test_dropout_draws_anew_for_each_key_and_is_off_in_use():
    network, x = Every(10, rngs=nnx.Rngs(0)), jnp.ones((2, 8, 8, 3))
    one, same, other = (forward(network, x, training=True, key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(*(forward(network, x, training=False, key=jax.random.key(s)) for s in (0, 1)))
