"""Networks: ordinary Flax NNX modules, and what makes any such module follow a schedule.

`get("resnet20")` says how one of ours is built, `.build(rngs=nnx.Rngs(0))` builds it; imports no jax before that.
"""

from approxtrain.models.catalog import ENTRIES, Model, get, names
from approxtrain.models.layer import ConvLayer

__all__ = ["ENTRIES", "ConvLayer", "Model", "get", "names"]
