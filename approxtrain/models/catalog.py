"""The networks that have a name, and how a network is built from its class. Imports no jax until one is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from approxtrain.errors import ConfigError, suggestion
from approxtrain.models.target import imported, in_own_code, place

if TYPE_CHECKING:
    from flax import nnx

    from approxtrain.models.conv_layers import Layers
    from approxtrain.models.layer import ConvLayer

HERE = "approxtrain.models"
SHOWN = 6
"""How many convolutions that stay exact are named in a line."""


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


_TRACED: dict[tuple[Any, ...], Any] = {}
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
        from flax import nnx

        network = self._class()
        height, width, channels = self.image_shape
        offered: dict[str, Any] = {"classes": self.classes, "num_classes": self.classes, "in_channels": channels}
        offered |= {"image_shape": (height, width, channels), "dtype": dtype}
        with in_own_code(f"`model`: {self.target} cannot be built", hint=_called_with):
            known = _arguments(network)
            given = {name: value for name, value in offered.items() if name in known and value is not None}
            built = network(**{**given, **self.arguments}, rngs=rngs)
        if not isinstance(built, nnx.Module):
            raise ConfigError(
                f"`model`: {self.target} makes an object of {type(built).__name__!r}, which is no flax.nnx.Module. "
                "The target is a class derived from flax.nnx.Module, or a function that returns such a module."
            )
        return built

    def check(self, precision: str) -> None:
        """ConfigError where it cannot compute in this precision, or does not give one number for each class."""
        output = self._traced[1]  # first of all: whether it can be built and called
        if precision != "float32" and "dtype" not in _arguments(self._class()):
            raise ConfigError(
                f"`train.precision` (={precision!r}): {self.target} takes no `dtype`, so it computes in float32. "
                "Give its class one and hand it on to its layers, or leave the precision out."
            )
        self._check_output(output, 1)
        if not self.target.startswith(f"{HERE}."):  # a test looks at those
            self._check_output(self._used(precision), 2)

    def _check_output(self, output: Any, images: int) -> None:
        of_images = "one image" if images == 1 else f"{images} images in evaluation"
        shape = getattr(output, "shape", None)
        if shape is None:
            raise ConfigError(
                f"`model`: {self.target} returns a {type(output).__name__} of {of_images}. It must return one array, "
                f"[{images}, {self.classes}]: a number for each class."
            )
        if shape != (images, self.classes):
            raise ConfigError(
                f"`model`: {self.target} makes {list(shape)} of {of_images}, and there are {self.classes} classes: it "
                f"must be [{images}, {self.classes}]. A class that takes `classes` or `num_classes` is told how many."
            )

    @property
    def found(self) -> Layers:
        """Its convolutions, found by tracing a forward pass. Imports jax."""
        return self._traced[0]

    @property
    def _traced(self) -> tuple[Layers, Any]:
        """Its layers, and what it makes of one image in training."""
        if self._key not in _TRACED:
            _TRACED[self._key] = self._explained(self._trace, "an image")
        return _TRACED[self._key]

    def _used(self, precision: str) -> Any:
        """What it makes of two images in evaluation: where it would fail at the end of the first epoch."""
        key = *self._key, precision
        if key not in _TRACED:
            _TRACED[key] = self._explained(lambda: self._evaluate(precision), "two images, in evaluation,")
        return _TRACED[key]

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.target, repr(sorted(self.arguments.items())), self.image_shape, self.classes

    def _explained(self, call: Callable[[], Any], images: str) -> Any:
        size = "×".join(map(str, self.image_shape))
        what = f"`model`: {self.target} cannot be called on {images} of {size}"
        with in_own_code(what, hint=self._channels_that_fit):
            return call()

    def _channels_that_fit(self, _: Exception) -> str:
        height, width, channels = self.image_shape
        other = 3 if channels == 1 else 1
        try:
            self.on((height, width, other), self.classes)._trace()
        except Exception:
            return ""
        return (
            f"Images of {other} channel{'s' * (other > 1)} it can be called on, and these have {channels}: say "
            f"data.channels={other}, if they are image files, or let its class take `in_channels`."
        )

    def shell(self, dtype: Any = None) -> nnx.Module:
        """The module without numbers in its arrays."""
        from flax import nnx

        return nnx.eval_shape(lambda: self.build(rngs=nnx.Rngs(0), dtype=dtype))

    def _trace(self, size: int | None = None) -> tuple[Layers, Any]:
        """On an image of the data's shape, or of `size` rows and columns."""
        import jax

        from approxtrain.models.conv_layers import traced

        rows, columns, channels = self.image_shape
        height, width = (size, size) if size else (rows, columns)
        return traced(self.shell(), jax.ShapeDtypeStruct((1, height, width, channels), "float32"))

    def _evaluate(self, precision: str) -> Any:
        import jax
        import jax.numpy as jnp
        from flax import nnx

        from approxtrain.models.forward import forward

        graph, state = nnx.split(self.shell(jnp.dtype(precision)))
        x = jax.ShapeDtypeStruct((2, *self.image_shape), "float32")
        return jax.eval_shape(lambda state, x: forward(nnx.merge(graph, state), x, training=False), state, x)

    @property
    def layers(self) -> tuple[ConvLayer, ...]:
        """Those that a schedule can reach."""
        return self.found.numbered

    def layers_at(self, size: int | None) -> tuple[ConvLayer, ...]:
        """Those of the same network, built as before, on images of `size` rows and columns (None: on its own).

        ConfigError where it cannot be called on such images, or does not see the same layers there.
        """
        if size is None:
            return self.layers
        key = *self._key, size
        if key not in _TRACED:
            what = f"`schedule.image_sizes`: {self.target} cannot be called on an image of {size}×{size}"
            with in_own_code(
                what, hint=lambda _: "Progressive resizing needs a network that pools over all positions."
            ):
                _TRACED[key] = self._trace(size)
        layers, output = _TRACED[key]
        self._check_output(output, 1)
        if [layer.path for layer in layers.numbered] != [layer.path for layer in self.layers]:
            raise ConfigError(
                f"`schedule.image_sizes`: on images of {size}×{size}, {self.target} has other layers than on those of "
                "the data: choose another size."
            )
        return layers.numbered

    @property
    def unreached(self) -> list[str]:
        """Lines that say what stays exact whatever the schedule, or that everything does."""
        exact = [f"{path} ({why})" for path, why in self.found.exact.items()]
        more = [f"and {len(exact) - SHOWN} more"] if len(exact) > SHOWN else []
        nothing = "no convolution that a schedule can reach: every gradient is exact"
        listed = f"exact whatever the schedule: {', '.join(exact[:SHOWN] + more)}"
        return ([] if self.layers else [nothing]) + ([listed] if exact else [])

    @cached_property
    def parameters(self) -> int:
        """How many there are. Imports jax."""
        import jax
        from flax import nnx

        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(self.shell(), nnx.Param)))

    def _class(self) -> Callable[..., Any]:
        return imported(self.target, "model.target")


def _called_with(error: Exception) -> str:
    """What a class is called with, where it cannot be called like that."""
    told = "It is called with `rngs`, with `model.arguments`, and with those of classes, num_classes, in_channels, "
    return "" if place(error) else f"{told}image_shape and dtype that its signature names."


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
