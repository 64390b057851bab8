"""What is trained: for each network its exact runs and its schedules, all with one shape of the learning rate."""

from __future__ import annotations

from typing import NamedTuple

from approxtrain.config import Config, load
from approxtrain.report.estimates import counted
from tools.arms import BATCH, COMMON, IMAGES

FULL = '{ name = "full" }'
WHOLE = "exact4"
"""The exact run that all are held against."""
LINE = ("exact2", "exact3", WHOLE)
"""Exact runs of different lengths, between which exact training of any time lies."""


class Arm(NamedTuple):
    """What a run has of its own."""

    text: str
    schedule: str = FULL
    epochs: int = 4
    batch: int | None = None
    """Another one than the family's."""
    network: tuple[str, ...] = ()
    """What differs from the family's."""

    @property
    def exact(self) -> bool:
        """Every gradient of every layer, on whole images, in batches as most arms have them."""
        return self.schedule == FULL and self.batch is None


class Family(NamedTuple):
    """The arms of one network, in the order in which they are trained for each seed."""

    network: str
    learning_rate: float
    arms: dict[str, Arm]
    images: int = IMAGES
    batch: int = BATCH

    def command(self, name: str) -> list[str]:
        """Preset and overrides of an arm."""
        arm = self.arms[name]
        fewer = [f"data.limit={self.images}"] if self.images < IMAGES else []
        rate, batch = f"optimizer.learning_rate={self.learning_rate}", f"train.batch_size={arm.batch or self.batch}"
        own = [f"model.name={self.network}", f"train.epochs={arm.epochs}", f"schedule={arm.schedule}", *arm.network]
        return ["resnet20-full", *COMMON, *fewer, rate, batch, *own]

    def config(self, name: str, *more: str) -> Config:
        preset, *overrides = self.command(name)
        return load(preset, [*overrides, *more])

    def steps(self, name: str) -> int:
        """Of an epoch."""
        return self.images // (self.arms[name].batch or self.batch)


MOST = ', epochs = { from = "3%", to = "80%" }'
SMALL = 'image_sizes = [{ size = 24, epochs = { to = "50%" } }]'
HALVES = 'image_shares = [{ share = 0.5, epochs = { to = "50%" } }]'
LATER = 'image_shares = [{ share = 0.5, epochs = { from = "50%" } }]'
LONGER = 'image_sizes = [{ size = 24, epochs = { to = "80%" } }]'
GROWING = 'image_sizes = [{ size = 16, epochs = { to = "20%" } }, { size = 24, epochs = { from = "20%", to = "60%" } }]'
THIRDS = 'bypass = [{ path = "stage?/2", to = "50%" }]'


def method(name: str, when: str = "") -> str:
    """In every layer but the first."""
    return f'{{ rules = [{{ method = "{name}", layers = {{ start = 2 }}{when} }}] }}'


def prefix(last: int, when: str = "", more: str = "") -> str:
    """Layers 1 to `last` left alone at every second step, and frozen."""
    rule = f'{{ method = "skip", layers = {{ start = 1, stop = {last} }}, steps = {{ start = 1, every = 2 }}{when} }}'
    return f"{{ frozen_prefix = true, {more and f'{more}, '}rules = [{rule}] }}"


def zero_init(which: str) -> tuple[str, ...]:
    return (f"model.arguments={{ zero_init = {which} }}",)


def depth(layers: int, *epochs: int) -> dict[str, Arm]:
    """Exact runs of a ResNet of another depth."""
    other = (f"model.arguments={{ depth = {layers} }}",)
    return {
        f"resnet{layers}-{each}": Arm(f"exact ResNet-{layers}, {counted(each, 'epoch')}", epochs=each, network=other)
        for each in epochs
    }


EXACT = {
    WHOLE: Arm("exact"),
    "exact3": Arm("exact, 3 epochs", epochs=3),
    "exact2": Arm("exact, 2 epochs", epochs=2),
}
RESNET20 = EXACT | {
    "both": Arm("the prefix from 3 to 80 %, and images of 24 pixels in the first half", prefix(7, MOST, SMALL)),
    "size24": Arm("images of 24 pixels, the first half", f"{{ {SMALL} }}"),
    "size24long": Arm("images of 24 pixels, to 80 %", f"{{ {LONGER} }}"),
    "growing": Arm("images of 16 pixels to 20 %, of 24 to 60 %", f"{{ {GROWING} }}"),
    "batch96": Arm("as many exact steps, of 96 images", epochs=3, batch=96),
    "batch64": Arm("as many exact steps, of 64 images", epochs=2, batch=64),
    "batch64-4": Arm("exact, with batches of 64", batch=64),
    "size24-64": Arm("images of 24 pixels, the first half, with batches of 64", f"{{ {SMALL} }}", batch=64),
    "half": Arm("half of each batch, the first half", f"{{ {HALVES} }}"),
    "half-late": Arm("half of each batch, the second half", f"{{ {LATER} }}"),
    "small-half": Arm(
        "images of 24 pixels in the first half, half of each batch in the second", f"{{ {SMALL}, {LATER} }}"
    ),
    "small-half5": Arm("images of 24 pixels, then half of each batch, 5 epochs", f"{{ {SMALL}, {LATER} }}", epochs=5),
    "half24": Arm("half of each batch, and images of 24 pixels, the first half", f"{{ {HALVES}, {SMALL} }}"),
    "prefix80": Arm("the prefix from 3 to 80 %", prefix(7, MOST)),
    "prefix": Arm("frozen prefix, layers 1 to 7 at every second step", prefix(7)),
    "pooled": Arm("pooled, layers 2 to 19", method("pooled")),
    "pooled-late": Arm("pooled, layers 2 to 19, the second half", method("pooled", ', epochs = { from = "50%" }')),
    "coarse80": Arm("coarse, layers 2 to 19, from 3 to 80 %", method("coarse", MOST)),
    "prefix13": Arm("the prefix of layers 1 to 13 from 3 to 80 %", prefix(13, MOST)),
    "prefix13-late": Arm("the prefix of layers 1 to 13, the second half", prefix(13, ', epochs = { from = "50%" }')),
    "corrected": Arm("corrected, layers 2 to 19", method("corrected")),
    "later": Arm("the third blocks left out in the first half", f"{{ {THIRDS} }}", network=zero_init('"stage?/2"')),
    "later24": Arm(
        "the third blocks left out, and images of 24 pixels, in the first half",
        f"{{ {THIRDS}, {SMALL} }}",
        network=zero_init('"stage?/2"'),
    ),
    "deeper24": Arm(
        "the third blocks left out, and images of 24 pixels, in the first half; all blocks begin as shortcuts",
        f"{{ {THIRDS}, {SMALL} }}",
        network=zero_init("true"),
    ),
    "resnet14": Arm("exact ResNet-14", network=("model.name=resnet14",)),
    "exact1": Arm("exact, 1 epoch", epochs=1),
    **depth(14, 2, 3, 6),
    **depth(8, 3, 5, 8, 11),
    **depth(32, 1, 2, 3),
}
BATCH32 = (
    EXACT
    | {name: RESNET20[name] for name in ("small-half", "size24", "both", "small-half5", "size24long", "resnet14")}
    | depth(14, 5)
)
CNN2 = EXACT | {
    "pooled80": Arm("`pooled` in layer 2, from 3 to 80 %", method("pooled", MOST)),
    "coarse80": Arm("`coarse` in layer 2, from 3 to 80 %", method("coarse", MOST)),
    "approx80": Arm("the paper's `approx` in layer 2, from 3 to 80 %", method("approx", MOST)),
    "prefix80": Arm("layer 1 left alone at every second step, from 3 to 80 %", prefix(1, MOST)),
    "half-late": RESNET20["half-late"],
}
RESNET18 = EXACT | {name: RESNET20[name] for name in ("size24", "small-half5")}
FAMILIES = {
    "resnet20": Family("resnet20", 0.002, RESNET20),
    "resnet20-32": Family("resnet20", 0.002, BATCH32, batch=32),
    "cnn2": Family("cnn2", 0.001, CNN2, images=15_000, batch=64),
    "resnet18": Family("resnet18-small", 0.001, RESNET18, images=9_000, batch=32),
}
COMMANDS = {f"{network}/{name}": family.command(name) for network, family in FAMILIES.items() for name in family.arms}
