"""How well `schedule-tune` predicts: twelve schedules that it has not seen, trained, in docs/schedule-tune.md.

python -m tools.predictor tune DIR    # minutes, in which the machine should be quiet: what predictions are made of
python -m tools.predictor page        # writes the table

The schedules are arms of `python -m tools.frontier`, which trains them. DIR is a folder with the images of
`cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from math import hypot, prod
from operator import itemgetter
from statistics import mean
from time import perf_counter
from typing import Any, NamedTuple

from approxtrain import disk, models
from approxtrain.report.estimates import Estimate, interval, paired
from approxtrain.run import archive
from approxtrain.schedule.seen import Seen
from approxtrain.schedule.summary import Summary
from approxtrain.worth import forecast
from approxtrain.worth.choice import Phase, phases_around
from approxtrain.worth.forecast import Drop, Trace
from approxtrain.worth.fork_file import Fork
from approxtrain.worth.options import Look, Option
from tools import arms, ranks, worths
from tools.frontier import times
from tools.frontier.comparison import accuracies
from tools.frontier.families import FAMILIES, WHOLE
from tools.rendered import DOCS, NOT_YET, ROOT, Part, table

RESULT = ROOT / "results/predictor/tune.json"
PART = Part(DOCS / "schedule-tune.md", "from results/predictor/ and results/frontier/resnet20/")
NETWORK = "resnet20"
LAYERS = len(models.get(NETWORK).layers)


class Use(NamedTuple):
    """An option, or a look at the images, in a part of the run."""

    option: Option | Look
    begin: float = 0.0
    end: float = 1.0


def frozen(last: int, begin: float = 0.0, end: float = 1.0) -> Use:
    return Use(Option("skip", 1, last, tuple(range(1 + (last > 7))), every=2), begin, end)


def pooled(begin: float = 0.0) -> list[Use]:
    return [Use(Option("pooled", *layers, (0,)), begin) for layers in ((2, 7), (8, 13), (14, 19))]


def looking(begin: float, end: float, **seen: Any) -> Use:
    return Use(Look(Seen(**seen)), begin, end)


UNSEEN = {
    "prefix": [frozen(7)],
    "prefix80": [frozen(7, 0.03, 0.8)],
    "prefix13": [frozen(13, 0.03, 0.8)],
    "prefix13-late": [frozen(13, 0.5)],
    "pooled": pooled(),
    "pooled-late": pooled(0.5),
    "size24": [looking(0, 0.5, size=24)],
    "size24long": [looking(0, 0.8, size=24)],
    "growing": [looking(0, 0.2, size=16), looking(0.2, 0.6, size=24)],
    "half": [looking(0, 0.5, share=0.5)],
    "half24": [looking(0, 0.5, size=24), looking(0, 0.5, share=0.5)],
    "both": [looking(0, 0.5, size=24), frozen(7, 0.03, 0.8)],
}
"""Arms of tools/frontier, as what `schedule-tune` measures."""


def tune(folder: str) -> None:
    """Keep what `schedule-tune` measures, and how long all of it takes, from the start of the command on: each time
    anew."""
    arms.refuse_changed_files()
    out = ROOT / "runs/predictor"
    shutil.rmtree(out, ignore_errors=True)
    preset, *overrides = FAMILIES[NETWORK].command(WHOLE)
    what = ["schedule-tune", preset, *overrides, f"data.dir={folder}", "--budget", "time=0.8"]
    begin = perf_counter()
    command = [sys.executable, "-m", "approxtrain_cli", *what, "--out", str(out / "tuned.toml")]
    subprocess.run(command, check=True)
    seconds = perf_counter() - begin
    (found,) = out.glob("tune-*/tune.json")
    disk.write_json(RESULT, json.loads(found.read_text("utf-8")) | {"seconds": seconds})


class Tuned(NamedTuple):
    """What the command knows: of each option its time and its worth in each phase, and the error over images."""

    seconds: float
    phases: tuple[Phase, ...]
    options: dict[str, dict[str, Any]]
    trace: Trace


@cache
def tuned() -> Tuned:
    found = json.loads(RESULT.read_text("utf-8"))
    family = FAMILIES[NETWORK]
    epochs = family.arms[WHOLE].epochs
    first, *inner, last = phases_around([epoch / epochs for epoch in found["settings"]["at"]])
    # what is measured near an end of the run is held to be so up to it
    phases = first._replace(begin=0.0), *inner, last._replace(end=1.0)
    forks = [Fork(**each) for each in found["forks"]]
    trace = forecast.trace(forks, (epochs * family.steps(WHOLE), found["exact_accuracy"]), 1.0)
    assert trace
    return Tuned(found["seconds"], phases, {each["option"]: each for each in found["measured"]}, trace)


class Slice(NamedTuple):
    """A part of the run in which neither the phase nor what is used changes."""

    length: float
    phase: int
    looks: list[dict[str, Any]]
    options: list[dict[str, Any]]

    def left(self, of: Callable[[dict[str, Any]], float]) -> float:
        """Of time or images: looks multiply, options add up."""
        return prod(of(look) for look in self.looks) * (1 - sum(1 - of(option) for option in self.options))


def slices(uses: Sequence[Use]) -> Iterator[Slice]:
    ends = {bound for part in (*tuned().phases, *uses) for bound in (part.begin, part.end)}
    for begin, end in pairwise(sorted(ends)):
        phase = next(n for n, part in enumerate(tuned().phases) if part.begin <= begin < part.end)
        used = [use.option for use in uses if use.begin <= begin < use.end]
        looks, options = (
            [tuned().options[each.name] for each in used if isinstance(each, kind)] for kind in (Look, Option)
        )
        yield Slice(end - begin, phase, looks, options)


def predicted_time(uses: Sequence[Use]) -> float:
    return sum(part.length * part.left(itemgetter("time")) for part in slices(uses))


def predicted(uses: Sequence[Use]) -> Drop:
    """Points below the exact run, as `schedule-tune` adds up what its parts are worth."""
    images, errors = 0.0, dict.fromkeys(tuned().options, 0.0)
    for part in slices(uses):
        images += part.length * part.left(lambda each, phase=part.phase: each["worth"][phase])
        for each in (*part.looks, *part.options):
            errors[each["option"]] += part.length * each["error"][part.phase]
    return tuned().trace.drop(images, hypot(*errors.values()))


def operations(name: str) -> float:
    """Share of the exact run's, in convolutions."""
    family = FAMILIES[NETWORK]
    config, schedule = family.config(name), times.schedule_of(family, name)
    run = config.train.batch_size, family.steps(name), config.train.epochs
    return 1 - Summary(models.get(NETWORK), config.schedule, schedule, *run).run.speed_up_with_methods


def alignment(uses: Sequence[Use]) -> float:
    """Mean over layers and steps, that of an exact gradient being 1 and that of none 0; images are not looked at."""
    of = worths.alignment_of_layers(NETWORK)
    lost = 0.0
    for option, begin, end in uses:
        if isinstance(option, Option):
            aligned = [of.get((option.method, layer), 0.0) for layer in range(option.first, option.last + 1)]
            lost += (end - begin) / option.every * sum(1 - each for each in aligned)
    return 1 - lost / LAYERS


def training_losses(name: str) -> float:
    """Of all epochs, added up, the mean over seeds: known only when a run is over."""
    runs = [archive.read(file) for file in sorted((times.RESULTS / NETWORK).glob(f"{name}-seed*.json"))]
    return mean(sum(epoch["train_loss"] for epoch in run.epochs) for run in runs)


def seen(name: str) -> Estimate | None:
    """Points of accuracy above the whole exact run of the same seed."""
    return paired(accuracies(NETWORK, name), accuracies(NETWORK, WHOLE))


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    yield "schedule", "time, predicted", "time, measured", "points, predicted", "points, seen", "seeds"
    for name, uses in UNSEEN.items():
        share, points = times.share_of_time(NETWORK, name), seen(name)
        measured = f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})" if share else "–"
        drop = predicted(uses).text.replace(" points", "")
        count = str(points.n if points else 0)
        text = FAMILIES[NETWORK].arms[name].text
        yield text, f"{predicted_time(uses):.3f}", measured, drop, interval(points, sign=True), count


def scores() -> dict[str, list[float]]:
    """What says of each schedule how good it will be; the higher, the better."""
    return {
        "`schedule-tune`": [-predicted(uses).points for uses in UNSEEN.values()],
        "operations": [operations(name) for name in UNSEEN],
        "alignment": [alignment(uses) for uses in UNSEEN.values()],
        "sum of training losses": [-training_losses(name) for name in UNSEEN],
    }


def page() -> str:
    if not RESULT.exists():
        return NOT_YET
    points = [seen(name) for name in UNSEEN]
    parts = [f"The command took {tuned().seconds / 60:.1f} minutes.", table(rows())]
    if all(points):
        judged = [("predictor", "Spearman's ρ with what was seen")]
        reached = [each.mean for each in points if each]
        judged += [(name, ranks.text(ranks.correlation(score, reached))) for name, score in scores().items()]
        parts.append(table(judged))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("tune").add_argument("images")
    commands.add_parser("page")
    asked = parser.parse_args()
    if asked.what == "tune":
        tune(asked.images)
    else:
        PART.put(page())


if __name__ == "__main__":
    main()
