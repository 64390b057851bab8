"""The networks, as jax-free descriptions. `get("resnet20")` describes; `network.Network` builds it with Flax NNX."""

from approxtrain.models.catalog import cnn2, cnn5, get, names, resnet, vgg19
from approxtrain.models.description import ConvLayer, Model

__all__ = ["ConvLayer", "Model", "cnn2", "cnn5", "get", "names", "resnet", "vgg19"]
