"""The same training step in PyTorch, as a peer where PyTorch is installed; never a dependency.

The network is that of `torch_networks`, with Adam in PyTorch's fused form and the same crop and flip. Four ways,
because none is the fastest everywhere: run eagerly or compiled by `torch.compile`, with images in channels-last order
or contiguous NCHW.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from approxtrain.bench import torch_networks, torch_peer
from approxtrain.config import Config
from approxtrain.data import ImageSet
from approxtrain.models import Model
from approxtrain.training.batch import PADDING, channel_statistics

FORMATS = {"nhwc": "channels_last", "nchw": "contiguous_format"}


def peers(model: Model, config: Config, dataset: ImageSet) -> Iterator[tuple[str, Callable[[], None] | str]]:
    """(name, a call of one step) for each way; in place of the call the reason where PyTorch cannot do it."""
    if torch_networks.network(model.name) is None:
        yield "torch", f"there is no {model.name} in PyTorch here (approxtrain/bench/torch_networks.py)"
        return
    for fashion, form in product(("eager", "compiled"), FORMATS):
        step = TorchStep(model, config, dataset, FORMATS[form], compiled=fashion == "compiled")
        try:
            step()
        except Exception as error:  # torch.compile needs a C++ compiler, and says so in many ways
            yield f"torch {fashion} {form}", str(error).strip().partition("\n")[0] or type(error).__name__
        else:
            yield f"torch {fashion} {form}", step


class TorchStep:
    """One step of Adam on a random batch each call, with as many threads as XLA has."""

    def __init__(self, model: Model, config: Config, dataset: ImageSet, memory_format: str, *, compiled: bool) -> None:
        torch = self._torch = torch_peer.module()
        torch.manual_seed(config.train.seed)
        self._batch, self._augment = config.train.batch_size, config.train.augment
        self._format = getattr(torch, memory_format)
        self._autocast = config.train.precision == "bfloat16"
        train, _ = dataset.arrays
        self._pixels = torch.from_numpy(np.array(train.images))
        self._labels = torch.from_numpy(np.array(train.labels)).long()
        self._mean, self._std = (torch.from_numpy(a) for a in channel_statistics(train.images))
        self.network = torch_networks.network(model.name).to(memory_format=self._format)
        self._adam = torch.optim.Adam(self.network.parameters(), lr=config.optimizer.learning_rate, fused=True)
        self._loss = torch.compile(self._loss_of) if compiled else self._loss_of

    def __call__(self) -> None:
        x, labels = self._batch_of()
        self._adam.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, of its compiler
            self._loss(x, labels).backward()
        self._adam.step()

    def _loss_of(self, x: Any, labels: Any) -> Any:
        torch = self._torch
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._autocast):
            logits = self.network(x)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    def _batch_of(self) -> tuple[Any, Any]:
        """x `[N, C, H, W]`, labels `[N]`."""
        torch, n = self._torch, self._batch
        index = torch.randint(0, len(self._labels), (n,))
        x = (self._pixels[index].float() - self._mean) / self._std
        if self._augment:
            x = self._cropped_and_flipped(x)
        return x.permute(0, 3, 1, 2).contiguous(memory_format=self._format), self._labels[index]

    def _cropped_and_flipped(self, x: Any) -> Any:
        torch, (n, height, width, _) = self._torch, x.shape
        x = torch.nn.functional.pad(x, (0, 0, PADDING, PADDING, PADDING, PADDING))
        rows = torch.arange(height) + torch.randint(0, 2 * PADDING + 1, (n, 1))
        cols = torch.arange(width) + torch.randint(0, 2 * PADDING + 1, (n, 1))
        cols = torch.where(torch.rand(n, 1) < 0.5, cols.flip(1), cols)
        return x[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]
