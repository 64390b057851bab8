"""How well `schedule-tune` predicts: twelve schedules that it has not seen, trained, in docs/schedule-tune.md.

python -m tools.predictor tune DIR    # minutes, in which the machine should be quiet: what predictions are made of
python -m tools.predictor page        # writes the table

The schedules are trained by `python -m tools.frontier train DIR --arms unseen/… --seeds 0 1`. DIR is a folder with the
images of `cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import mean
from time import perf_counter
from typing import Any, NamedTuple

from approxtrain import disk, models
from approxtrain.report.estimates import Estimate, interval, paired
from approxtrain.run import archive
from approxtrain.worth import forecast
from approxtrain.worth.choice import Phase, phases_around
from approxtrain.worth.forecast import Drop, Trace
from approxtrain.worth.forks import Fork
from tools import arms, ranks, worths
from tools.frontier import times
from tools.frontier.comparison import accuracies
from tools.frontier.families import FAMILIES, WHOLE
from tools.frontier.unseen import UNSEEN, Use
from tools.rendered import DOCS, ROOT, Part, table

RESULT = ROOT / "results/predictor/tune.json"
PART = Part(DOCS / "schedule-tune.md", "from results/predictor/ and results/frontier/unseen/")
NETWORK, METHODS = "resnet20", ("pooled", "zero")
LAYERS = len(models.get(NETWORK).layers)


def tune(folder: str) -> None:
    """Keep what `schedule-tune` measures, and how long all of it takes, from the start of the command on."""
    arms.refuse_changed_files()
    out = ROOT / "runs/predictor"
    preset, *overrides = FAMILIES[NETWORK].command(WHOLE)
    what = ["schedule-tune", preset, *overrides, f"data.dir={folder}", "--budget", "time=0.8"]
    methods = [part for method in METHODS for part in ("--method", method)]
    begin = perf_counter()
    command = [sys.executable, "-m", "approxtrain_cli", *what, *methods, "--out", str(out / "tuned.toml")]
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
    epochs, steps = FAMILIES[NETWORK].arms[WHOLE].epochs, FAMILIES[NETWORK].steps(WHOLE)
    first, *inner, last = phases_around([epoch / epochs for epoch in found["settings"]["at"]])
    # what is measured near an end of the run is held to be so up to it
    phases = first._replace(begin=0.0), *inner, last._replace(end=1.0)
    forks = [Fork(**each) for each in found["forks"]]
    trace = forecast.trace(forks, steps, (epochs, found["exact_accuracy"]), epochs)
    assert trace
    return Tuned(found["seconds"], phases, {each["option"]: each for each in found["measured"]}, trace)


def predicted_time(uses: Sequence[Use]) -> float:
    return 1 - sum(use.share * (1 - tuned().options[use.option.name]["time"]) for use in uses)


def predicted(uses: Sequence[Use]) -> Drop:
    """Points below the exact run: as `choice.Plan` adds up what its parts are worth."""
    lost = variance = 0.0
    for use in uses:
        option = tuned().options[use.option.name]
        for phase, worth, error in zip(tuned().phases, option["worth"], option["error"], strict=True):
            share = max(0.0, min(use.end, phase.end) - max(use.begin, phase.begin)) / use.thinned
            lost += share * (1 - worth)
            variance += (share * error) ** 2
    return tuned().trace.drop(1 - lost, variance**0.5)


def cells(uses: Sequence[Use]) -> float:
    """Share of layers and steps that are exact."""
    return 1 - sum(use.share / use.option.every * (use.option.last - use.option.first + 1) for use in uses) / LAYERS


def alignment(uses: Sequence[Use]) -> float:
    """Mean over layers and steps, that of an exact gradient being 1 and that of none 0."""
    of = worths.alignment_of_layers(NETWORK)
    lost = 0.0
    for use in uses:
        layers = range(use.option.first, use.option.last + 1)
        aligned = [of.get((use.option.method, layer), 0.0) for layer in layers]
        lost += use.share / use.option.every * sum(1 - each for each in aligned)
    return 1 - lost / LAYERS


def training_losses(name: str) -> float:
    """Of all epochs, added up, the mean over seeds: known only when a run is over."""
    runs = [archive.read(file) for file in sorted((times.RESULTS / "unseen").glob(f"{name}-seed*.json"))]
    return mean(sum(epoch["train_loss"] for epoch in run.epochs) for run in runs)


def seen(name: str) -> Estimate | None:
    """Points of accuracy above the whole exact run of the same seed."""
    return paired(accuracies("unseen", name), accuracies(NETWORK, WHOLE))


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    yield "schedule", "time, predicted", "time, measured", "points, predicted", "points, seen", "seeds"
    for name, uses in UNSEEN.items():
        share, points = times.share_of_time("unseen", name), seen(name)
        measured = f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})" if share else "–"
        drop = predicted(uses).text.replace(" points", "")
        count = str(points.n if points else 0)
        text = FAMILIES["unseen"].arms[name].text
        yield text, f"{predicted_time(uses):.3f}", measured, drop, interval(points, sign=True), count


def scores() -> dict[str, list[float]]:
    """What says of each schedule how good it will be; the higher, the better."""
    return {
        "`schedule-tune`": [-predicted(uses).points for uses in UNSEEN.values()],
        "share of exact cells": [cells(uses) for uses in UNSEEN.values()],
        "alignment": [alignment(uses) for uses in UNSEEN.values()],
        "sum of training losses": [-training_losses(name) for name in UNSEEN],
    }


def page() -> str:
    if not RESULT.exists():
        return ""
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
