"""The networks that have a name, and how a class becomes a network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.models.airnet import AirNet
from approxtrain.models.forward import forward
from approxtrain.models.resnet_cifar import Block

PUBLISHED = {
    "resnet14": 172_506,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet56": 853_018,
    "vgg19": 20_035_018,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet18-small": 11_173_962,
    "resnet50-small": 23_520_842,
    "wrn16-4": 2_748_890,
}
"""Parameters, as their authors or the libraries that people take them from have them."""
DEEP = ("resnet18", "resnet32", "resnet50", "resnet50-small", "resnet56", "vgg19", "wrn16-4")
"""Networks that take seconds to trace."""
NAMES = [pytest.param(name, marks=pytest.mark.gate) if name in DEEP else name for name in models.names()]


@pytest.mark.parametrize("name", NAMES)
def test_what_ls_says_of_it_is_so(name):
    model, entry = models.get(name), models.ENTRIES[name]
    assert [layer.number for layer in model.layers] == list(range(1, entry.layers + 1))
    assert model.parameters == entry.parameters == PUBLISHED.get(name, entry.parameters)


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_images_of_its_size_and_other_classes(name):
    model = models.get(name)
    network = nnx.eval_shape(lambda: model.on(model.image_shape, 7).build(rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    graph, state = nnx.split(network)
    x = jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)
    logits = jax.eval_shape(lambda state, x: forward(nnx.merge(graph, state), x, training=True), state, x)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.bfloat16)


def test_a_shortcut_takes_every_stride_th_pixel_and_fills_new_channels_with_zeros():
    block = Block(4, 8, 2, dtype=None, rngs=nnx.Rngs(0))
    block.conv2.kernel[...] = jnp.zeros((3, 3, 8, 8))
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 4)).astype(np.float32)
    expected = np.zeros((2, 3, 3, 8), np.float32)
    expected[..., 2:6] = np.maximum(x[:, ::2, ::2], 0)
    np.testing.assert_array_equal(block(jnp.asarray(x)), expected)


def test_evaluated_an_image_does_not_depend_on_the_others_of_its_batch(pocket):
    network = pocket.build(rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    forward(network, images, training=True)  # moves the running averages away from 0 and 1
    used, trained = (lambda x, training=t: forward(network, x, training=training) for t in (False, True))
    np.testing.assert_allclose(used(images)[:1], used(images[:1]), rtol=1e-5)
    assert not np.allclose(trained(images)[:1], trained(images[:1]), rtol=1e-2)


def test_an_unknown_network_is_an_error_that_names_those_there_are():
    with pytest.raises(ValueError, match=r"no model is called 'vgg16'; there are cnn2, .* Did you mean 'vgg19'\?"):
        models.get("vgg16")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Model("m", "", "tests.nowhere:Net"), r"`model.target` \(='tests.nowhere:Net'\) cannot be imported"),
        (Model("m", "", "tests.networks:Net"), r"`model.target` .* cannot be imported"),
        (Model("m", "", "tests.networks:Small", {"depth": 3}), r"tests.networks:Small cannot be built: .*'depth'"),
        (Model("m", "", "approxtrain.models.resnet_cifar:CifarResNet", {"depth": 18}), r"`depth` \(=18\) must be 6n"),
    ],
)
def test_a_class_that_cannot_be_built_is_an_error_in_words(model, message):
    with pytest.raises(ConfigError, match=message):
        model.build(rngs=nnx.Rngs(0))


def test_a_network_for_another_number_of_classes_is_an_error():
    with pytest.raises(ConfigError, match=r"makes \[1, 7\] of one image, .* 10 classes: it must be \[1, 10\]"):
        Model("m", "", "tests.networks:Small", {"classes": 7}).check("float32")
    Model("m", "", "tests.networks:Small").check("float32")


def test_a_precision_that_a_network_does_not_take_is_an_error_and_not_float32():
    Model("m", "", "tests.networks:Small").check("bfloat16")
    with pytest.raises(ConfigError, match=r"`train.precision` \(='bfloat16'\): tests.networks:Biased takes no `dtype`"):
        Model("m", "", "tests.networks:Biased").check("bfloat16")


def test_airnet_takes_an_image_for_its_mirror_image_in_evaluation_and_in_nothing_else():
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    network, alone = (AirNet(widths=(8, 8, 8), mirrored=mirrored, rngs=nnx.Rngs(0)) for mirrored in (True, False))

    def both(network: nnx.Module, *, training: bool) -> list[np.ndarray]:
        return [np.asarray(forward(network, image, training=training)) for image in (x, x[:, :, ::-1])]

    evaluated, of_one = both(network, training=False), both(alone, training=False)
    np.testing.assert_allclose(evaluated[0], evaluated[1], rtol=1e-5)
    np.testing.assert_allclose(evaluated[0], sum(of_one) / 2, rtol=1e-5)
    trained = both(network, training=True)
    assert np.abs(trained[0] - trained[1]).max() > 1e-3
