"""The networks that have a name, and how a network is built from its class. Imports no jax until one is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from approxtrain.errors import ConfigError, suggestion
from approxtrain.models.target import imported

if TYPE_CHECKING:
    from flax import nnx

    from approxtrain.models.conv_layers import Layers
    from approxtrain.models.layer import ConvLayer

HERE = "approxtrain.models"


class Entry(NamedTuple):
    """A network that has a name. Its numbers are for `ls`, which builds nothing; a test holds them."""

    summary: str
    target: str
    layers: int
    parameters: int
    arguments: dict[str, Any] = {}  # noqa: RUF012  (a tuple's default, which nobody changes)


def _small(depth: int, layers: int, parameters: int) -> Entry:
    summary = f"ResNet-{depth} for CIFAR, identity shortcuts"
    return Entry(summary, "resnet_cifar:CifarResNet", layers, parameters, {"depth": depth})


ENTRIES = {
    "cnn2": Entry("2-layer CNN of the paper, batch norm, 5×5 kernels", "cnn:CNN2", 2, 1_756_554),
    "cnn5": Entry("small 5-layer CNN for the quickstart and Figure 3", "cnn:CNN5", 5, 70_618),
    "resnet14": _small(14, 13, 172_506),
    "resnet20": _small(20, 19, 269_722),
    "resnet32": _small(32, 31, 464_154),
    "resnet56": _small(56, 55, 853_018),
    "vgg19": Entry("VGG-19 with batch norm and one linear layer", "vgg:VGG19", 16, 20_035_018),
    "resnet18": Entry("ResNet-18 for ImageNet", "resnet:ResNet", 20, 11_689_512, {"depth": 18}),
    "resnet50": Entry("ResNet-50 for ImageNet", "resnet:ResNet", 53, 25_557_032, {"depth": 50}),
    "resnet18-small": Entry(
        "ResNet-18 for 32×32 images", "resnet:ResNet", 20, 11_173_962, {"depth": 18, "stem": "small"}
    ),
    "resnet50-small": Entry(
        "ResNet-50 for 32×32 images", "resnet:ResNet", 53, 23_520_842, {"depth": 50, "stem": "small"}
    ),
    "wrn16-4": Entry("WideResNet-16-4 for 32×32 images", "wide_resnet:WideResNet", 16, 2_748_890),
    "airnet": Entry("small wide network for few epochs, after airbench", "airnet:AirNet", 7, 569_656),
}
LARGE = (224, 224, 3)
"""Image size of what is made for ImageNet, where no data set says another."""


_TRACED: dict[tuple[Any, ...], tuple[Layers, tuple[int, ...]]] = {}
"""What was found of a network is kept: tracing a deep one takes a second."""


@dataclass(frozen=True)
class Model:
    """A network's class and what it is called with. It is built for the images of a data set."""

    name: str
    """Of the catalog, or the target."""
    summary: str
    target: str
    """"package.module:Class"."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    image_shape: tuple[int, int, int] = (32, 32, 3)
    classes: int = 10

    def on(self, image_shape: tuple[int, int, int], classes: int) -> Model:
        """The same network for other images."""
        return replace(self, image_shape=image_shape, classes=classes)

    def build(self, *, rngs: nnx.Rngs, dtype: Any = None) -> nnx.Module:
        """A new module. ConfigError where the class cannot be called like that.

        It is called with `rngs` and the model's arguments, and with those of `classes` (or `num_classes`),
        `in_channels`, `image_shape` and `dtype` that its signature knows and the arguments do not say.
        """
        network = self._class()
        known = _arguments(network)
        height, width, channels = self.image_shape
        offered: dict[str, Any] = {"classes": self.classes, "num_classes": self.classes, "in_channels": channels}
        offered |= {"image_shape": (height, width, channels), "dtype": dtype}
        given = {name: value for name, value in offered.items() if name in known and value is not None}
        try:
            return network(**{**given, **self.arguments}, rngs=rngs)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"`model`: {self.target} cannot be built: {error}") from error

    def check(self, precision: str) -> None:
        """ConfigError where it cannot compute in this precision, or does not give one number for each class."""
        if precision != "float32" and "dtype" not in _arguments(self._class()):
            raise ConfigError(
                f"`train.precision` (={precision!r}): {self.target} takes no `dtype`, so it computes in float32. "
                "Give its class one and hand it on to its layers, or leave the precision out."
            )
        if (shape := self._traced[1]) != (1, self.classes):
            raise ConfigError(
                f"`model`: {self.target} makes {list(shape)} of one image, and there are {self.classes} classes: "
                f"it must be [1, {self.classes}]. A class that takes `classes` or `num_classes` is told how many."
            )

    @property
    def found(self) -> Layers:
        """Its convolutions, found by tracing a forward pass. Imports jax."""
        return self._traced[0]

    @property
    def _traced(self) -> tuple[Layers, tuple[int, ...]]:
        import jax
        from flax import nnx

        from approxtrain.models.conv_layers import traced

        key = self.target, repr(sorted(self.arguments.items())), self.image_shape, self.classes
        if key not in _TRACED:
            shell = nnx.eval_shape(lambda: self.build(rngs=nnx.Rngs(0)))
            _TRACED[key] = traced(shell, jax.ShapeDtypeStruct((1, *self.image_shape), "float32"))
        return _TRACED[key]

    @property
    def layers(self) -> tuple[ConvLayer, ...]:
        """Those that a schedule can reach."""
        return self.found.numbered

    @cached_property
    def parameters(self) -> int:
        """How many there are. Imports jax."""
        import jax
        from flax import nnx

        shell = nnx.eval_shape(lambda: self.build(rngs=nnx.Rngs(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shell, nnx.Param)))

    def _class(self) -> Callable[..., Any]:
        return imported(self.target, "model.target")


def _arguments(network: Callable[..., Any]) -> Collection[str]:
    """Names of what a class, or a function that returns a module, is called with."""
    return inspect.signature(network.__init__ if inspect.isclass(network) else network).parameters.keys()


def names() -> tuple[str, ...]:
    return tuple(ENTRIES)


def get(name: str) -> Model:
    """The network of that name; ValueError names what there is."""
    if name not in ENTRIES:
        raise ValueError(f"no model is called {name!r}; there are {', '.join(names())}.{suggestion(name, names())}")
    entry = ENTRIES[name]
    model = Model(name, entry.summary, f"{HERE}.{entry.target}", entry.arguments)
    return model.on(LARGE, 1000) if entry.summary.endswith("ImageNet") else model
