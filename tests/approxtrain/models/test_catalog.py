"""The networks of the paper: their sizes, and that description and module are one network."""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from approxtrain import models
from approxtrain.models import Model
from approxtrain.models import description as d
from approxtrain.models import network as module
from approxtrain.models.network import Network
from approxtrain_kernels.methods import make


def abstract(model: Model) -> Network:
    """The module with shapes in place of arrays."""
    return nnx.eval_shape(lambda: Network(model, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("name", "count"), [("cnn2", 2), ("cnn5", 5), ("resnet14", 13), ("resnet20", 19), ("vgg19", 16)]
)
def test_it_has_the_convolutions_of_the_paper_numbered_from_1(name, count):
    assert [layer.number for layer in models.get(name).layers] == list(range(1, count + 1))


@pytest.mark.parametrize(("name", "count"), [("resnet14", 172_506), ("resnet20", 269_722), ("vgg19", 20_035_018)])
def test_it_has_as_many_parameters_as_published(name, count):
    parameters = jax.tree.leaves(nnx.state(abstract(models.get(name)), nnx.Param))
    assert sum(prod(leaf.shape) for leaf in parameters) == count


@pytest.mark.parametrize("name", models.names())
def test_the_description_agrees_with_the_convolutions_that_run(name, monkeypatch):
    model, calls = models.get(name), []
    network = abstract(model)

    def record(x, w, *, strides, padding, method, key, **rest):
        calls.append((x.shape, w.shape, strides, padding, method))
        return conv(x, w, strides=strides, padding=padding, method=method, key=key, **rest)

    conv = module.conv
    monkeypatch.setattr(module, "conv", record)
    column = [make("approx", k=layer.number) for layer in model.layers]  # tells the layers apart
    graph, state = nnx.split(network)
    images = jnp.zeros((1, *model.image_shape))
    logits = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x, column=column, train=True), state, images)
    assert calls == [
        (layer.shape.x_shape, layer.shape.w_shape, layer.shape.strides, "SAME", method)
        for layer, method in zip(model.layers, column, strict=True)
    ]
    assert (logits.shape, logits.dtype) == ((1, 10), jnp.float32)
    assert [network.parts[layer.path].kernel.shape for layer in model.layers] == [call[1] for call in calls]


def test_every_layer_gets_a_key_of_its_own(pocket, monkeypatch):
    keys = []

    def record(x, w, *, strides, padding, method, key, **rest):
        keys.append(tuple(np.asarray(jax.random.key_data(key))))
        return conv(x, w, strides=strides, padding=padding, method=method, key=key, **rest)

    network, conv = Network(pocket, rngs=nnx.Rngs(0)), module.conv
    monkeypatch.setattr(module, "conv", record)
    network(jnp.zeros((1, 8, 8, 3)), key=jax.random.key(0))
    assert len(set(keys)) == len(keys) == 3


def test_a_shortcut_takes_every_stride_th_pixel_and_fills_new_channels_with_zeros():
    block = d.Residual((d.Conv("conv", 8, stride=2),))
    network = Network(Model("block", "", (block,), (6, 6, 4)), rngs=nnx.Rngs(0))
    network.parts["conv"].kernel[...] = jnp.zeros((3, 3, 4, 8))
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 4)).astype(np.float32)
    expected = np.zeros((2, 3, 3, 8), np.float32)
    expected[..., 2:6] = x[:, ::2, ::2]
    np.testing.assert_array_equal(network(jnp.asarray(x)), expected)


def test_evaluated_an_image_does_not_depend_on_the_others_of_its_batch(pocket):
    network = Network(pocket, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    network(images, train=True)  # moves the running averages away from 0 and 1
    np.testing.assert_allclose(network(images)[:1], network(images[:1]), rtol=1e-5)
    assert not np.allclose(network(images, train=True)[:1], network(images[:1], train=True), rtol=1e-2)


def test_a_column_of_another_length_is_an_error(pocket):
    with pytest.raises(ValueError, match="`column` has 2 methods, but small has 3 layers"):
        abstract(pocket)(jnp.zeros((1, 8, 8, 3)), column=[make("full")] * 2)


def test_an_unknown_network_is_an_error_that_names_those_there_are():
    with pytest.raises(ValueError, match=r"no model is called 'vgg16'; there are cnn2, .* Did you mean 'vgg19'\?"):
        models.get("vgg16")
    with pytest.raises(ValueError, match=r"`depth` \(=18\) must be one of 14, 20, 32, 56"):
        models.resnet(18)
