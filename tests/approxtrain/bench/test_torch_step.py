"""The PyTorch peer is the same network: with our numbers put in, it gives our logits and takes our step."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from approxtrain.models.network import Network
from flax import nnx

from approxtrain import data
from approxtrain.bench.torch_step import FORMATS, TorchStep, _key
from approxtrain.models import Model
from approxtrain.models import description as d

torch = pytest.importorskip("torch", reason="PyTorch is not installed: there is no peer to check")


BODY = (d.Conv("wider", 8), d.BatchNorm("wider/norm"), d.Relu(), d.Conv("last", 8, kernel=5, bias=True))
MODEL = Model(
    "every-operation",
    "one of nearly each, with strides of 1, where SAME and PyTorch pad alike",
    (
        d.Conv("first", 4),
        d.BatchNorm("norm.one"),
        d.Relu(),
        d.MaxPool(2, 2),
        d.Residual(BODY),
        d.GlobalMean(),
        d.Dense("logits", 10),
    ),
)


@pytest.fixture
def peer(configure):
    config = configure({"name": "full"})
    return TorchStep(MODEL, config, data.load(config.data), FORMATS["nhwc"], compiled=False)


def test_with_our_parameters_it_gives_our_logits(peer):
    network = Network(MODEL, rngs=nnx.Rngs(0))
    for path, part in network.parts.items():
        theirs = peer._parts[_key(path)]
        values = {name: np.array(value[...]) for name, value in vars(part).items() if isinstance(value, nnx.Param)}
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
        for name, value in values.items():
            target = theirs.bias if name == "bias" else theirs.weight
            target.data = torch.from_numpy(value.transpose(order[value.ndim]).copy())
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = peer._run(peer._model.ops, torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(network(jnp.asarray(x), train=True), theirs, rtol=1e-3, atol=1e-4)


def test_it_learns(peer):
    losses = []
    for _ in range(12):
        x, labels = peer._batch_of()
        losses.append(peer._loss_of(x, labels).item())
        peer()
    assert x.shape == (32, 3, 32, 32)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
