"""The evidence of docs/frontier.md: schedules against exact training at equal time, arm by arm and seed by seed.

python -m tools.frontier train DIR --seeds 0 1 2   # trains what results/frontier/ lacks; goes on where it was killed
python -m tools.frontier time DIR                  # times a step of each column, interleaved; the machine must be quiet
python -m tools.frontier page                      # writes the table and the picture of docs/frontier.md

DIR is a folder with the images of `cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_interp_spline

from approxtrain.bench.timing import Ratio, Times, ratio
from approxtrain.config import Config, load
from approxtrain.report.estimates import estimate, interval, paired
from approxtrain.run.environment import this_environment
from approxtrain.schedule import Schedule
from approxtrain.schedule.ranges import LARGEST
from tools import arms
from tools.rendered import DOCS, ROOT, Part, table

RESULTS = ROOT / "results/frontier"
TIMES = RESULTS / "time.json"
PART, PICTURE = Part(DOCS / "frontier.md", "from results/frontier/"), DOCS / "frontier.png"
PREFIX = '{ method = "skip", layers = { start = 1, stop = 7 }, steps = { start = 1, every = 2 }'
POOLED = '{ method = "pooled", layers = { start = 2 }'
CORRECTED = '{ method = "corrected", layers = { start = 2 }'
SMALL = 'image_sizes = [{ size = 24, epochs = { to = "50%" } }]'
LONGER = 'image_sizes = [{ size = 24, epochs = { to = "80%" } }]'
GROWING = 'image_sizes = [{ size = 16, epochs = { to = "20%" } }, { size = 24, epochs = { from = "20%", to = "60%" } }]'
TO_EQUAL = "time over that of exact training which is as accurate"
DEEPER = 'bypass = [{ path = "stage?/2", to = "50%" }]'
THIRDS = ('model.arguments={ zero_init = "stage?/2" }',)
MOST = 'epochs = { from = "3%", to = "80%" }'


LONGEST = 4
"""Epochs of the whole exact run."""


class Arm(NamedTuple):
    """A network, epochs and a schedule, as the command line is given them."""

    text: str
    epochs: int = LONGEST
    schedule: str = '{ name = "full" }'
    network: str = "resnet20"
    more: tuple[str, ...] = ()

    def config(self, folder: str | None = None, seed: int = 0) -> Config:
        where = [f"data.dir={folder}"] if folder else []
        return load(f"{self.network}-full", [*self.overrides, f"train.seed={seed}", *where])

    @property
    def overrides(self) -> list[str]:
        return [
            *arms.COMMON,
            "optimizer.learning_rate=0.002",
            f"train.epochs={self.epochs}",
            f"schedule={self.schedule}",
            *self.more,
        ]


ARMS = {
    "exact4": Arm("exact"),
    "exact3": Arm("exact, 3 epochs", epochs=3),
    "prefix80": Arm("the prefix from 3 to 80 %", schedule=f"{{ frozen_prefix = true, rules = [{PREFIX}, {MOST} }}] }}"),
    "exact2": Arm("exact, 2 epochs", epochs=2),
    "both": Arm(
        "the prefix from 3 to 80 %, and images of 24 pixels",
        schedule=f"{{ frozen_prefix = true, {SMALL}, rules = [{PREFIX}, {MOST} }}] }}",
    ),
    "size24": Arm("images of 24 pixels, the first half", schedule=f"{{ {SMALL} }}"),
    "deeper24": Arm(
        "the third blocks left out, and images of 24 pixels, in the first half; all blocks begin as shortcuts",
        schedule=f"{{ {DEEPER}, {SMALL} }}",
        more=("model.arguments={ zero_init = true }",),
    ),
    "later": Arm("the third blocks left out in the first half", schedule=f"{{ {DEEPER} }}", more=THIRDS),
    "later24": Arm(
        "the third blocks left out, and images of 24 pixels, in the first half",
        schedule=f"{{ {DEEPER}, {SMALL} }}",
        more=THIRDS,
    ),
    "growing": Arm("images of 16 pixels to 20 %, of 24 to 60 %", schedule=f"{{ {GROWING} }}"),
    "size24long": Arm("images of 24 pixels, to 80 %", schedule=f"{{ {LONGER} }}"),
    "resnet14": Arm("exact ResNet-14", network="resnet14"),
    "pooled": Arm("pooled, layers 2 to 19", schedule=f"{{ rules = [{POOLED} }}] }}"),
    "prefix": Arm(
        "frozen prefix, layers 1 to 7 at every second step",
        schedule=f"{{ frozen_prefix = true, rules = [{PREFIX} }}] }}",
    ),
    "corrected": Arm("corrected, layers 2 to 19", schedule=f"{{ rules = [{CORRECTED} }}] }}"),
}
"""In the order in which they are trained for each seed."""
COMMANDS = {name: [f"{arm.network}-full", *arm.overrides] for name, arm in ARMS.items()}
NETWORKS = {arm.network for arm in ARMS.values()}


def time(folder: str, rounds: int = 20) -> None:
    """Seconds of a step of each distinct column of all arms, interleaved in one process."""
    arms.refuse_changed_files()
    from approxtrain import disk
    from approxtrain.bench.step_bench import StepBench
    from approxtrain.bench.timing import interleaved

    benches = {network: StepBench(Arm("", network=network).config(folder)) for network in NETWORKS}
    calls = {}
    for arm in ARMS.values():
        bench = benches[arm.network]
        for name, column in columns_of(arm, bench.schedule(arm.config(folder).schedule)).items():
            calls.setdefault(name, bench.contender(column).call)
    seconds = {name: list(times.seconds) for name, times in interleaved(calls, rounds).items()}
    disk.write_json(TIMES, {"rounds": rounds, "seconds": seconds, "environment": this_environment()})


def columns_of(arm: Arm, schedule: Schedule) -> dict[str, Schedule]:
    """Each distinct column as a schedule of its own, by a name."""
    found = {}
    for column, size, blocks in zip(schedule.columns, schedule.column_sizes, schedule.column_absent, strict=True):
        methods = [(method.label, sum(other == method for other in column)) for method in dict.fromkeys(column)]
        more = [f"{size} pixels"] * bool(size) + [f"without {' and '.join(blocks)}"] * bool(blocks)
        name = ", ".join([arm.network, *(f"{label} {count}" for label, count in methods), *more])
        mask = np.array([[schedule.cells.index(method)] for method in column], np.int8)
        alone = Schedule(schedule.layers, schedule.cells, ((0, mask),), schedule.frozen_prefix, (size,))
        found[name] = replace(alone, bypass=tuple((block, LARGEST) for block in blocks))
    return found


@cache
def share_of_time(name: str) -> Ratio | None:
    """Of the exact run's, by the time of a step of each column and how often the run has it; None where one was not
    timed."""
    seconds = {key: np.asarray(value) for key, value in json.loads(TIMES.read_text("utf-8"))["seconds"].items()}
    arm, steps = ARMS[name], arms.IMAGES // arms.BATCH
    model = arm.config().model.network()
    schedule = Schedule.from_config(arm.config().schedule, model.layers, steps, arm.epochs)
    visits = schedule.column_visits(0, steps * arm.epochs)
    of_column = dict(zip(columns_of(arm, schedule), visits.tolist(), strict=True))
    if of_column.keys() - seconds.keys():
        return None
    run = sum((count * seconds[key] for key, count in of_column.items()), np.zeros(1))
    exact = steps * LONGEST * seconds["resnet20, full 19"]
    return ratio(Times(tuple(run)), Times(tuple(exact)))


def accuracies(name: str) -> dict[int, float]:
    return arms.accuracies(RESULTS, name)


def at_equal_time(name: str) -> dict[int, float]:
    """Seed → accuracy of exact training whose epochs take as long as this arm: between its runs of 2, 3 and 4 epochs,
    linear in the logarithm of the epochs."""
    share = share_of_time(name)
    assert share
    return {seed: line(math.log(LONGEST * share.value)) for seed, line in exact_lines().items()}


def of_time_to_equal_accuracy(name: str) -> dict[int, float]:
    """Seed → time of this arm over that of exact training which ends as accurate, by the same lines; not of a seed
    whose longer exact runs were not the more accurate ones."""
    share, found = share_of_time(name), accuracies(name)
    assert share
    lines = {seed: line for seed, line in exact_lines().items() if seed in found and line.rises}
    return {seed: LONGEST * share.value / math.exp(line.inverse(found[seed])) for seed, line in lines.items()}


class Line(NamedTuple):
    """Through points, straight between neighbours and beyond the outer ones."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, x: float) -> float:
        return float(make_interp_spline(self.x, self.y, k=1)(x))

    @property
    def rises(self) -> bool:
        return all(a < b for a, b in pairwise(self.y))

    def inverse(self, y: float) -> float:
        return Line(self.y, self.x)(y)


def exact_lines() -> dict[int, Line]:
    """Seed → accuracy of exact training over the logarithm of its epochs."""
    runs = {ARMS[key].epochs: accuracies(key) for key in ("exact2", "exact3", "exact4")}
    seeds = set.intersection(*(set(each) for each in runs.values()))
    x = tuple(map(math.log, runs))
    return {seed: Line(x, tuple(each[seed] for each in runs.values())) for seed in seeds}


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    yield (
        "run",
        "time",
        "accuracy, %",
        "against the whole exact run",
        "against exact training of equal time",
        TO_EQUAL,
        "seeds",
    )
    exact = accuracies("exact4")
    shares = {name: share_of_time(name) for name in ARMS}
    for name, share in sorted(shares.items(), key=lambda item: -item[1].value if item[1] else 0.0):
        arm, found = ARMS[name], accuracies(name)
        time = f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})" if share else "–"
        whole = "–" if name == "exact4" else interval(paired(found, exact), sign=True)
        compared = share and not name.startswith("exact")
        equal = interval(paired(found, at_equal_time(name)), sign=True) if compared else "–"
        mean = interval(paired(found, dict.fromkeys(found, 0.0)))
        faster = paired(of_time_to_equal_accuracy(name), dict.fromkeys(found, 0.0)) if compared else None
        yield arm.text, time, mean, whole, equal, interval(faster) if compared else "–", str(len(found))


def page() -> str:
    picture = f"\n![Accuracy over time]({PICTURE.name})\n" if any(map(accuracies, ARMS)) else ""
    return f"{table(rows())}\n{picture}"


def colour_of(name: str) -> str:
    """matplotlib's name of an arm's colour, the same however many others are known."""
    return f"C{list(ARMS).index(name)}"


def draw() -> bytes:
    """Accuracy over the share of the exact run's time, a PNG: exact training in grey, schedules in colour, with their
    95 % intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    known = {name: estimate(list(accuracies(name).values())) for name in ARMS}
    shares = {name: share_of_time(name) for name in ARMS}
    points = {name: (share.value, found) for name, share in shares.items() if share and (found := known[name])}
    exact = sorted(point for name, point in points.items() if name.startswith("exact"))
    axes.plot([time for time, _ in exact], [found.mean for _, found in exact], color="0.6", linewidth=1)
    for name, (time, found) in points.items():
        arm, full = ARMS[name], ARMS[name].schedule == Arm("").schedule
        colour, marker = "#808080" if full else colour_of(name), "o" if arm.network == "resnet20" else "s"
        label, half = f"exact, {arm.network}" if full else arm.text, found.half_width or 0.0
        axes.errorbar(time, found.mean, half, color=colour, marker=marker, linestyle="", elinewidth=1, label=label)
    axes.set(xlabel="share of the whole exact run's time", ylabel="accuracy on held-out images, %", xscale="log")
    ticks = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    axes.set_xticks(ticks, [f"{tick:.1f}" for tick in ticks])
    axes.set_xticks([], minor=True)
    labels = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.legend(labels.values(), labels.keys(), frameon=False, fontsize="small", loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def main() -> None:
    asked = arms.command_line(str(__doc__), ARMS, "time").parse_args()
    if asked.command == "train":
        arms.train(RESULTS, COMMANDS, asked)
    elif asked.command == "time":
        time(asked.images)
    else:
        PART.put(page())
        if PICTURE.name in page():
            PICTURE.write_bytes(draw())


if __name__ == "__main__":
    main()
