"""The PyTorch peer is the same network: with our numbers put in, it gives our logits and takes our step."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from approxtrain import data, models
from approxtrain.bench import torch_networks
from approxtrain.bench.torch_step import FORMATS, TorchStep
from approxtrain.models.forward import forward
from approxtrain.training.moved import by_path

torch = pytest.importorskip("torch", reason="PyTorch is not installed: there is no peer to check")

NAMES = ["cnn2", "cnn5", "resnet14", "resnet20", "vgg19"]


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_same_parameters_in_the_same_order(name):
    theirs = [tuple(p.shape) for p in torch_networks.network(name).parameters()]
    shell = nnx.eval_shape(lambda: models.get(name).build(rngs=nnx.Rngs(0)))
    ours = by_path(nnx.to_pure_dict(nnx.state(shell, nnx.Param))).values()
    assert sorted(np.prod(shape) for shape in theirs) == sorted(leaf.size for leaf in ours)


def test_with_our_parameters_it_gives_our_logits():
    ours, theirs = models.get("cnn5").build(rngs=nnx.Rngs(0)), torch_networks.network("cnn5")
    pairs = [*zip(theirs[0::3], [layer.conv for layer in ours.features], strict=False), (theirs[-1], ours.logits)]
    pairs += zip(theirs[1::3], [layer.norm for layer in ours.features], strict=False)
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    for target, source in pairs:
        for name, value in (("weight", getattr(source, "kernel", None) or source.scale), ("bias", source.bias)):
            if value is not None:
                array = np.array(value[...])
                getattr(target, name).data = torch.from_numpy(array.transpose(order[array.ndim]).copy())
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        logits = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    # at the border the layers of stride 2 see other pixels
    assert np.corrcoef(np.ravel(forward(ours, x, training=True)), logits.ravel())[0, 1] > 0.9


def test_it_learns(configure):
    config = configure({"name": "full"})
    peer = TorchStep(models.get("cnn5"), config, data.load(config.data), FORMATS["nhwc"], compiled=False)
    losses = []
    for _ in range(12):
        x, labels = peer._batch_of()
        losses.append(peer._loss_of(x, labels).item())
        peer()
    assert x.shape == (32, 3, 32, 32)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_a_network_that_is_not_there_is_left_out_in_words(configure):
    from approxtrain.bench import torch_step

    config = configure({"name": "full"})
    ((name, why),) = torch_step.peers(models.get("wrn16-4"), config, data.load(config.data))
    assert name == "torch"
    assert "wrn16-4" in why
