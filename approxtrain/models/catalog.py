"""The networks of the paper, and one small one for the quickstart and for Figure 3. Imports no jax.

`cnn2`   the TensorFlow CIFAR-10 tutorial's network with batch norm in place of local response normalisation
`resnetN` [He 2015](https://arxiv.org/abs/1512.03385) 4.2: 6n+2 layers, 16-32-64 channels, identity shortcuts ("A")
`vgg19`  [Simonyan 2014](https://arxiv.org/abs/1409.1556) configuration E with batch norm and one linear layer
"""

from __future__ import annotations

from approxtrain.errors import suggestion
from approxtrain.models.description import (
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalMean,
    MaxPool,
    Model,
    Op,
    Relu,
    Residual,
)

RESNET_DEPTHS = (14, 20, 32, 56)
VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


def names() -> tuple[str, ...]:
    return ("cnn2", "cnn5", *(f"resnet{d}" for d in RESNET_DEPTHS), "vgg19")


def get(name: str) -> Model:
    """The description of network `name`; ValueError names what there is."""
    if name in ("cnn2", "cnn5", "vgg19"):
        return {"cnn2": cnn2, "cnn5": cnn5, "vgg19": vgg19}[name]()
    if name in names():
        return resnet(int(name.removeprefix("resnet")))
    raise ValueError(f"no model is called {name!r}; there are {', '.join(names())}.{suggestion(name, names())}")


def cnn2() -> Model:
    """Two 5×5×64 convolutions, three linear layers. The pooling, 3×3 with stride 2, is the tutorial's."""
    first = (Conv("conv1", 64, kernel=5), Relu(), MaxPool(3, 2), BatchNorm("norm1"))
    second = (Conv("conv2", 64, kernel=5), Relu(), BatchNorm("norm2"), MaxPool(3, 2))
    head = (Flatten(), Dense("dense1", 384), Relu(), Dense("dense2", 192), Relu(), Dense("logits", 10))
    return Model("cnn2", "2-layer CNN of the paper, batch norm, 5×5 kernels", (*first, *second, *head))


def cnn5() -> Model:
    """Five 3×3 convolutions: the smallest network that Figure 3's five rows fit."""
    ops: list[Op] = []
    for number, (channels, stride) in enumerate(((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)), start=1):
        ops += _conv_norm_relu(f"conv{number}", channels, stride)
    return Model("cnn5", "small 5-layer CNN for the quickstart and Figure 3", (*ops, GlobalMean(), Dense("logits", 10)))


def resnet(depth: int) -> Model:
    """6n+2 layers: a stem, three stages of n residual blocks with two 3×3 convolutions each, global mean, linear."""
    if depth not in RESNET_DEPTHS:
        raise ValueError(f"`depth` (={depth}) must be one of {', '.join(map(str, RESNET_DEPTHS))}.")
    ops: list[Op] = _conv_norm_relu("stem", 16, 1)
    for stage, channels in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            path = f"stage{stage}/block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            body = [
                *_conv_norm_relu(f"{path}/conv1", channels, stride),
                *_conv_norm_relu(f"{path}/conv2", channels, 1),
            ]
            ops += [Residual(tuple(body[:-1])), Relu()]  # the last ReLU comes after the sum
    return Model(
        f"resnet{depth}",
        f"ResNet-{depth} for CIFAR-10, identity shortcuts",
        (*ops, GlobalMean(), Dense("logits", 10)),
    )


def vgg19() -> Model:
    """Sixteen 3×3 convolutions in five groups with 2×2 max pooling after each, one linear layer."""
    ops: list[Op] = []
    for group, widths in enumerate(VGG19, start=1):
        for number, channels in enumerate(widths, start=1):
            ops += _conv_norm_relu(f"group{group}/conv{number}", channels, 1)
        ops.append(MaxPool(2, 2))
    return Model("vgg19", "VGG-19 with batch norm and one linear layer", (*ops, Flatten(), Dense("logits", 10)))


def _conv_norm_relu(path: str, channels: int, stride: int) -> list[Op]:
    return [Conv(path, channels, stride=stride), BatchNorm(f"{path}/norm"), Relu()]
