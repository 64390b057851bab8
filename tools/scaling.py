"""A training step on many devices, on paper: `python -m tools.scaling` writes the tables of docs/scaling.md.

With b images a device and r images a second on one, an exact step computes for T = b / r, of which a share OUTSIDE is
not of convolutions. The rest is divided over forward, dgrad and wgrad of each layer by their FLOPs; a method takes its
own share of its layer's (`Method.flops`), a frozen prefix leaves out its dgrads. What is outside is half before the
backward pass and half spread over it.

The backward pass goes from the last layer to the first, dgrad before wgrad, and a layer's gradient is ready after its
wgrad. Gradients are sent in that order, in buckets of BUCKET bytes: with N devices and B bytes a second from each,

    seconds of a bucket = LATENCY · log2 N + 2 (N − 1) / N · bytes / B

one after the other, none before it is ready. The step ends with the backward pass or with the last bucket, whichever is
later; without overlap the sending begins when the backward pass is over. What no image has a part in is not sent. Where
devices run other methods a gradient is ready when the slowest has its part. Under local SGD nothing is sent but after
an outer step, which sends weights and momentum when it is over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import numpy as np

from approxtrain import models
from approxtrain.models import Model
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.cost import shares_of
from approxtrain.schedule.frozen_prefix import prefix
from approxtrain.schedule.local import Sharing
from tools.rendered import DOCS, ROOT, Part

PART = Part(DOCS / "scaling.md", "by tools/scaling.py")
OUTSIDE, BUCKET, LATENCY = 0.25, 30e6, 5e-6
ASSUMED = 2800


class Cluster(NamedTuple):
    """So many devices, with bytes a second from each when all of them send, and images of a batch on each."""

    text: str
    devices: int
    rate: float
    images: int


CLUSTERS = (
    Cluster("8 GPUs, NVLink", 8, 370e9, 256),
    Cluster("64, InfiniBand, 42 GB/s a GPU", 64, 42e9, 256),
    Cluster("1,024, InfiniBand, 42 GB/s a GPU", 1024, 42e9, 32),
    Cluster("64 in 8 nodes, 100 Gb/s Ethernet", 64, 12.5e9, 32),
    Cluster("64 in 8 nodes, 25 Gb/s Ethernet", 64, 3.1e9, 32),
)
"""Inside of a node GPUs add up first, so that of Ethernet each has the rate of its node."""
DEVICES, STEPS = 4, 100
"""Of a schedule whose devices differ, as many times over as there are; and of an epoch."""
MOMENTUM = 2
"""Numbers that a mean of the copies takes for each parameter."""
RESNET50 = {
    "exact": {"name": "full"},
    "last stage `zero` at 3 of 4 steps": {
        "rules": [{"method": "zero", "path": "stage4/*", "steps": {"start": first, "every": 4}} for first in (1, 2, 3)]
    },
    "`pooled`, all but the first layer": {"rules": [{"method": "pooled", "layers": {"start": 2}}]},
    "stem to stage 2 frozen at every 2nd step": {
        "rules": [{"method": "skip", "layers": {"start": 1, "stop": 24}, "steps": {"start": 1, "every": 2}}],
        "frozen_prefix": True,
    },
    "a quarter of the layers `zero`, on each device another, in turn": {
        "rules": [
            {
                "method": "zero",
                "layers": {"start": number + 1, "every": DEVICES},
                "replicas": {"start": number, "stop": number + 1, "rotate": 1},
            }
            for number in range(DEVICES)
        ]
    },
    "local SGD, a mean at every 10th step": {"local": [{"every": 10}]},
}


class Step(NamedTuple):
    """Seconds and bytes of a step, the means over a period of the schedule."""

    seconds: float
    without_overlap: float
    sent: float


def step(model: Model, schedule: Schedule, cluster: Cluster, images_per_second: float) -> Step:
    count = STEPS if schedule.local.windows else math.lcm(*(mask.shape[-1] for _, mask in schedule.phases))
    each = [_of_step(model, number, schedule, cluster, images_per_second) for number in range(count)]
    return Step(*(sum(values) / count for values in zip(*each, strict=True)))


def _of_step(model: Model, number: int, schedule: Schedule, cluster: Cluster, images_per_second: float) -> Step:
    end, ready = _backward(model, number, schedule, cluster.images / images_per_second)
    if (sharing := schedule.local.at(number)) is Sharing.NOTHING:
        return Step(end, end, 0.0)
    if sharing is Sharing.STATE:
        ready = [(end, MOMENTUM * size) for _, size in ready]
    late = [(end, size) for _, size in ready]
    return Step(max(end, _sent_at(ready, cluster)), _sent_at(late, cluster), sum(size for _, size in ready))


def _backward(model: Model, number: int, schedule: Schedule, whole: float) -> tuple[float, list[tuple[float, float]]]:
    """When the step of that number has its gradients, and when those of each layer are ready, with their bytes; an
    exact one takes `whole` seconds."""
    layers, column, places = model.layers, schedule.column(number), schedule.places(number)
    exact = [layer.shape.flops for layer in layers]
    second = (1 - OUTSIDE) * whole / (3 * sum(exact) - exact[0])  # of a floating-point operation
    frozen = prefix(column) if schedule.frozen_prefix else 0
    now = np.full(schedule.replicas, OUTSIDE * whole / 2 + second * sum(exact))
    ready = [(float(now.max()), 4.0 * _rest(model))]  # the linear layer comes first
    for layer in reversed(range(len(layers))):
        shape, method = replace(layers[layer].shape, batch=1), column[layer]
        needed = layer and layer + 1 > frozen + (frozen > 0)
        members = [member for member, _ in shares_of(method)]
        flops = np.array([each.flops(shape) + (each.dgrad_flops(shape) if needed else 0.0) for each in members])
        now += second * flops[places[layer]] + OUTSIDE * whole / 2 * exact[layer] / sum(exact)
        if not method.known_everywhere:
            ready.append((float(now.max()), 4 * math.prod(shape.w_shape)))
    return float(now.max()), ready


def _rest(model: Model) -> int:
    """Parameters that are no convolution's."""
    return model.parameters - sum(math.prod(layer.shape.w_shape) for layer in model.layers)


def _sent_at(ready: Sequence[tuple[float, float]], cluster: Cluster) -> float:
    """When the last of these gradients has been added up everywhere."""
    end, size = 0.0, 0.0
    for number, (when, more) in enumerate(ready, start=1):
        size += more
        if size >= BUCKET or number == len(ready):
            share = 2 * (cluster.devices - 1) / cluster.devices
            end = max(end, when) + LATENCY * math.log2(cluster.devices) + share * size / cluster.rate
            size = 0.0
    return end


def schedules(model: Model) -> dict[str, Schedule]:
    tables = RESNET50 if model.name == "resnet50" else {"exact": {"name": "full"}}
    configs = {text: ScheduleConfig.model_validate(table) for text, table in tables.items()}
    return {text: Schedule.from_config(config, model.layers, STEPS, 100, DEVICES) for text, config in configs.items()}


def table(model: Model, images_per_second: float) -> Iterator[str]:
    named = schedules(model)
    exact, *others = named
    yield f"| devices | images each | exact, ms | without overlap | {' | '.join(others)} |"
    yield "|" + " --- |" * (4 + len(others))
    for cluster in CLUSTERS:
        of = {text: step(model, schedule, cluster, images_per_second) for text, schedule in named.items()}
        base = of[exact]
        cells = [_change(of[text].seconds / base.seconds - 1) for text in others]
        times = f"{1e3 * base.seconds:.1f} | {1e3 * base.without_overlap:.1f}"
        yield f"| {cluster.text} | {cluster.images} | {times} | {' | '.join(cells)} |"
    sent = [step(model, named[text], CLUSTERS[0], images_per_second).sent / 1e6 for text in (exact, *others)]
    yield f"| sent by each, MB a step | | {sent[0]:.1f} | | {' | '.join(f'{each:.1f}' for each in sent[1:])} |"


def _change(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-", "−")


def measured_images_per_second() -> float:
    """Of exact ResNet-20 in float32 on an H100, several steps a call (results/gpu/h100/throughput.json)."""
    (row,) = json.loads((ROOT / "results/gpu/h100/throughput.json").read_text("utf-8"))["rows"]
    return 1e3 * row["batch"] / median(row["milliseconds"]["scan"])


def page() -> str:
    large, small = models.get("resnet50"), models.get("resnet20")
    rate = measured_images_per_second()
    of_small = [step(small, schedules(small)["exact"], cluster._replace(images=128), rate) for cluster in CLUSTERS]
    *first, last = (f"{1e3 * each.seconds:.2f}" for each in of_small)
    megabytes, alone = 4e-6 * small.parameters, 1e3 * 128 / rate
    lines = [
        f"**ResNet-50**, 224×224, at an assumed {ASSUMED:,} images a second on one GPU in bfloat16, gradients in",
        "float32:",
        "",
        *table(large, ASSUMED),
        "",
        f"**ResNet-20**, at the {rate:,.0f} images a second that were measured on an H100 in float32, batches of 128",
        f"on each: its {megabytes:.1f} MB of gradients make {', '.join(first)} and {last} ms, from the top, of a step",
        f"that takes one of them {alone:.2f} ms.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    PART.put(page())


if __name__ == "__main__":
    main()
