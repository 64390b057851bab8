"""The evidence of docs/frontier.md: schedules against exact training at equal time, arm by arm and seed by seed.

python tools/frontier.py train DIR --seeds 4   # trains what is missing in results/frontier/; kill it, and it goes on
python tools/frontier.py time DIR              # times a step of each column, interleaved; the machine must be quiet
python tools/frontier.py page                  # writes the table of docs/frontier.md

DIR is a folder with the images of `cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from approxtrain.bench.timing import Ratio, Times, ratio
from approxtrain.config import Config, load
from approxtrain.report.estimates import interval, paired
from approxtrain.run import archive
from approxtrain.run.environment import this_environment
from approxtrain.schedule import Schedule

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results/frontier"
TIMES = RESULTS / "time.json"
PAGE = ROOT / "docs/frontier.md"
BEGIN, END = "<!-- rendered from results/frontier/ -->\n", "<!-- end of what is rendered -->\n"
IMAGES, HELD_OUT = 45_000, 5_000
COMMON = (
    *("data.name=cifar10-jpeg75", f"data.holdout={HELD_OUT}", "train.batch_size=128", "train.validate_every=1"),
    *("train.trackers=[]", "optimizer.learning_rate=0.002", "optimizer.rate=linear", "optimizer.final=0.0"),
)
"""Adam whose rate falls linearly to zero over the run, whatever its length: the same shape for every arm."""
PREFIX = '{ method = "skip", layers = { start = 1, stop = 7 }, steps = { start = 1, every = 2 }'
POOLED = '{ method = "pooled", layers = { start = 2 }'
MOST = 'epochs = { from = "3%", to = "80%" }'


class Arm(NamedTuple):
    """A network, epochs and a schedule, as the command line is given them."""

    text: str
    epochs: int = 4
    schedule: str = '{ name = "full" }'
    network: str = "resnet20"

    def config(self, folder: str | None = None, seed: int = 0) -> Config:
        where = [f"data.dir={folder}"] if folder else []
        return load(f"{self.network}-full", [*self.overrides, f"train.seed={seed}", *where])

    @property
    def overrides(self) -> list[str]:
        return [*COMMON, f"train.epochs={self.epochs}", f"schedule={self.schedule}"]


ARMS = {
    "exact4": Arm("exact"),
    "exact3": Arm("exact, 3 epochs", epochs=3),
    "prefix": Arm(
        "frozen prefix, layers 1 to 7 at every second step",
        schedule=f"{{ frozen_prefix = true, rules = [{PREFIX} }}] }}",
    ),
    "pooled": Arm("pooled, layers 2 to 19", schedule=f"{{ rules = [{POOLED} }}] }}"),
    "size24": Arm(
        "images of 24 pixels, the first half", schedule='{ image_sizes = [{ size = 24, epochs = { to = "50%" } }] }'
    ),
    "prefix80": Arm("the prefix from 3 to 80 %", schedule=f"{{ frozen_prefix = true, rules = [{PREFIX}, {MOST} }}] }}"),
    "exact2": Arm("exact, 2 epochs", epochs=2),
    "resnet14": Arm("exact ResNet-14", network="resnet14"),
}
"""In the order in which they are trained for each seed."""


def refuse_changed_files() -> None:
    """A result names the commit that it is of."""
    if (this_environment()["git_commit"] or "-dirty").endswith("-dirty"):
        sys.exit("There are changes that are not committed, so that a result would be of no commit: use a clean clone.")


def train(folder: str, seeds: int) -> None:
    """What is missing, seed by seed; each run is one JSON in results/frontier/."""
    refuse_changed_files()
    for seed in range(seeds):
        for name, arm in ARMS.items():
            target, run = RESULTS / f"{name}-seed{seed}.json", ROOT / f"runs/frontier/{name}-seed{seed}"
            if target.exists():
                continue
            start = ["--resume", str(run)] if (run / "config.toml").exists() else ["--out", str(run)]
            what = [] if start[0] == "--resume" else [f"{arm.network}-full", *arm.overrides]
            more = [f"train.seed={seed}"] if what else []
            program = [sys.executable, "-m", "approxtrain_cli", "train"]
            subprocess.run([*program, *what, *more, f"data.dir={folder}", *start], check=True)
            (found,) = archive.of_folder(run)
            archive.write(target, found)


def time(folder: str, rounds: int = 20) -> None:
    """Seconds of a step of each distinct column of all arms, interleaved in one process."""
    refuse_changed_files()
    from approxtrain import disk
    from approxtrain.bench.step_bench import StepBench
    from approxtrain.bench.timing import interleaved

    benches = {arm.network: StepBench(arm.config(folder)) for arm in ARMS.values()}
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
    for column, size in zip(schedule.columns, schedule.column_sizes, strict=True):
        methods = [(method.label, sum(other == method for other in column)) for method in dict.fromkeys(column)]
        pixels = [f"{size} pixels"] if size else []
        name = ", ".join([arm.network, *(f"{label} {count}" for label, count in methods), *pixels])
        mask = np.array([[schedule.cells.index(method)] for method in column], np.int8)
        found[name] = Schedule(schedule.layers, schedule.cells, ((0, mask),), schedule.frozen_prefix, (size,))
    return found


@cache
def share_of_time(name: str) -> Ratio:
    """Of the exact run's, by the time of a step of each column and how often the run has it."""
    seconds = {key: np.asarray(value) for key, value in json.loads(TIMES.read_text("utf-8"))["seconds"].items()}
    arm, steps = ARMS[name], IMAGES // 128
    model = arm.config().model.network()
    schedule = Schedule.from_config(arm.config().schedule, model.layers, steps, arm.epochs)
    visits = schedule.column_visits(0, steps * arm.epochs)
    of_column = zip(columns_of(arm, schedule), visits.tolist(), strict=True)
    run = sum((count * seconds[key] for key, count in of_column), np.zeros(1))
    exact = steps * ARMS["exact4"].epochs * seconds["resnet20, full 19"]
    return ratio(Times(tuple(run)), Times(tuple(exact)))


def accuracies(name: str) -> dict[int, float]:
    """Seed → accuracy on the held-out images at the end, in percent."""
    found = (archive.read(file) for file in sorted(RESULTS.glob(f"{name}-seed*.json")))
    return {run.seed: 100 * run.summary["final_accuracy"] for run in found}


def at_equal_time(name: str) -> dict[int, float]:
    """Seed → accuracy of exact training whose epochs take as long as this arm: between its runs of 2, 3 and 4 epochs,
    linear in the logarithm of the epochs."""
    runs = {ARMS[key].epochs: accuracies(key) for key in ("exact2", "exact3", "exact4")}
    epochs = np.log(4 * share_of_time(name).value)
    seeds = set.intersection(*(set(each) for each in runs.values()))
    ends = sorted(runs)
    return {seed: float(np.interp(epochs, np.log(ends), [runs[n][seed] for n in ends])) for seed in seeds}


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    yield "run", "time", "accuracy, %", "against the whole exact run", "against exact training of equal time", "seeds"
    exact = accuracies("exact4")
    for name in sorted(ARMS, key=lambda name: -share_of_time(name).value):
        arm, found, share = ARMS[name], accuracies(name), share_of_time(name)
        whole = "–" if name == "exact4" else interval(paired(found, exact), sign=True)
        equal = "–" if name.startswith("exact") else interval(paired(found, at_equal_time(name)), sign=True)
        mean = interval(paired(found, dict.fromkeys(found, 0.0)))
        yield arm.text, f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})", mean, whole, equal, str(len(found))


def page() -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows())
    return "\n".join([head, "|" + " --- |" * (head.count("|") - 1), *body]) + "\n"


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["train", folder, "--seeds", seeds]:
            train(folder, int(seeds))
        case ["time", folder]:
            time(folder)
        case ["page"]:
            text = PAGE.read_text("utf-8")
            before, after = text.partition(BEGIN)[0], text.partition(END)[2]
            PAGE.write_text(before + BEGIN + page() + END + after, "utf-8")
        case _:
            sys.exit(str(__doc__))


if __name__ == "__main__":
    main(sys.argv[1:])
