"""The paper's networks in PyTorch, written as one would write them there: for the peer of a training step.

Where SAME pads one side more than the other, PyTorch's convolutions and pooling pad evenly or at the other side: as
much work, and other numbers at the border.
"""

from __future__ import annotations

import re
from typing import Any

from approxtrain.bench.torch_peer import module
from approxtrain.models.vgg import WIDTHS


def network(name: str) -> Any:
    """The `torch.nn.Module` of a network of ours; None of one that is not here."""
    if depth := re.fullmatch(r"resnet(14|20|32|56)", name):
        return _resnet(int(depth[1]))
    made = {"cnn2": _cnn2, "cnn5": _cnn5, "vgg19": _vgg19}.get(name)
    return made() if made else None


def _conv_norm_relu(in_channels: int, channels: int, stride: int = 1) -> list[Any]:
    nn = module().nn
    conv = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


def _cnn2() -> Any:
    nn = module().nn
    first = (nn.Conv2d(3, 64, 5, 1, 2, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(64))
    second = (nn.Conv2d(64, 64, 5, 1, 2, bias=False), nn.ReLU(), nn.BatchNorm2d(64), nn.MaxPool2d(3, 2, 1))
    head = (nn.Flatten(), nn.Linear(4096, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, 10))
    return nn.Sequential(*first, *second, *head)


def _cnn5() -> Any:
    nn, layers = module().nn, []
    for sizes in ((3, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += _conv_norm_relu(*sizes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _vgg19() -> Any:
    nn, layers, channels = module().nn, [], 3
    for widths in WIDTHS:
        for width in widths:
            layers += _conv_norm_relu(channels, width)
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def _resnet(depth: int) -> Any:
    nn, f = module().nn, module().nn.functional

    class Block(nn.Module):
        def __init__(self, in_channels: int, channels: int, stride: int) -> None:
            super().__init__()
            first, second = _conv_norm_relu(in_channels, channels, stride), _conv_norm_relu(channels, channels)
            self.body, self.stride, self.more = nn.Sequential(*first, *second[:2]), stride, channels - in_channels

        def forward(self, x: Any) -> Any:
            shortcut = x[:, :, :: self.stride, :: self.stride]
            if self.more:
                shortcut = f.pad(shortcut, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
            return f.relu(self.body(x) + shortcut)

    blocks, channels = [], 16
    for width in (16, 32, 64):
        for number in range((depth - 2) // 6):
            blocks.append(Block(channels, width, 2 if width > 16 and number == 0 else 1))
            channels = width
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(*_conv_norm_relu(3, 16), *blocks, *head)
