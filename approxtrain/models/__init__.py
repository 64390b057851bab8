"""The networks, as jax-free descriptions. `get("resnet20")` describes; `network.Network` builds it with Flax NNX."""

from approxtrain.models.catalog import get, names, resnet
from approxtrain.models.description import ConvLayer, Model

__all__ = ["ConvLayer", "Model", "get", "names", "resnet"]
