"""What every method is worth in images: the tables and pictures of docs/worth.md.

python -m tools.worths measure DIR --networks resnet20    # an hour each on one core; goes on where it was killed
python -m tools.worths page                               # writes the tables and pictures

DIR is a folder with the images of `cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from statistics import mean
from typing import Any

from approxtrain.worth import picture
from approxtrain.worth.shares import Row, Worth, verdict
from approxtrain_kernels.methods import all_methods
from tools import arms, methods, ranks
from tools.frontier import times
from tools.frontier.families import FAMILIES, WHOLE
from tools.rendered import DOCS, NOT_YET, ROOT, Part, table

RESULTS = ROOT / "results/worth"
NETWORKS = {"resnet20": "prefix", "cnn2": None}
"""And besides the methods an arm of tools/frontier, which the command calls by the title of its schedule."""
EPOCHS, CHECKPOINTS, FORKS = 6, 5, 1
STEPS = {"resnet20": 96, "cnn2": 117}
"""Of a fork."""


def command(network: str, folder: str) -> list[str]:
    asked = [part for name in all_methods() if name != "full" for part in ("--method", name)]
    size = ("--checkpoints", str(CHECKPOINTS), "--steps", str(STEPS[network]), "--forks", str(FORKS))
    run = FAMILIES[network].command(NETWORKS[network] or WHOLE)
    return ["worth", *run, f"train.epochs={EPOCHS}", f"data.dir={folder}", *asked, *size]


def measure(network: str, folder: str) -> None:
    arms.refuse_changed_files()
    out = ROOT / f"runs/worth/{network}"
    what = [*command(network, folder), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "approxtrain_cli", *what], check=True)
    RESULTS.mkdir(exist_ok=True)
    shutil.copy(out / "worth.json", RESULTS / f"{network}.json")


def part(network: str) -> Part:
    return Part(DOCS / "worth.md", f"from results/worth/{network}.json")


def found(network: str) -> dict[str, Any]:
    file = RESULTS / f"{network}.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else {"rows": [], "alignments": []}


def known(network: str) -> list[Row]:
    """What was measured, with times of steps that were timed interleaved."""
    names = {f"{name} from layer 2": (name, over.value) for name, over in methods.over_exact(network).items()}
    if (arm := NETWORKS[network]) and (share := times.share_of_time(network, arm)):
        names[FAMILIES[network].config(arm).schedule.title] = FAMILIES[network].arms[arm].text, share.value
    rows = []
    for each in found(network)["rows"]:
        name, time = names[each["arm"]]
        rows.append(Row(name, each["epoch"], each["loss"], each["worth"] and Worth(**each["worth"]), time))
    return rows


def rows(network: str) -> Iterator[tuple[str, ...]]:
    """Of the table, the best one first; the first is its head."""
    every, aligned = known(network), alignment(network)
    epochs = sorted({row.epoch for row in every if row.epoch is not None})
    after = [f"after epoch {epoch}" for epoch in epochs]
    yield "method", "worth, in images", *after, "time", "held against fewer images", "alignment"
    whole = [row for row in every if row.epoch is None and row.worth]
    for row in sorted(whole, key=lambda row: -row.worth.value if row.worth else 0.0):
        of_epochs = {each.epoch: each.worth for each in every if each.arm == row.arm}
        each = [f"{worth.value:.2f}".replace("-", "−") if (worth := of_epochs[epoch]) else "–" for epoch in epochs]
        points = f"{round(aligned[row.arm], 2) + 0.0:.2f}" if row.arm in aligned else "–"
        assert row.worth
        yield row.arm, row.worth.text, *each, f"{row.time:.2f}", verdict(row), points


def alignment(network: str) -> dict[str, float]:
    """Of each method, the mean over layers and epochs."""
    of_layers = alignment_of_layers(network)
    return {
        method: mean(value for (other, _), value in of_layers.items() if other == method)
        for method in dict.fromkeys(method for method, _ in of_layers)
    }


def alignment_of_layers(network: str) -> dict[tuple[str, int], float]:
    """Of each method in each layer, the mean over epochs."""
    values: dict[tuple[str, int], list[float]] = {}
    for each in found(network)["alignments"]:
        values.setdefault((each["method"].partition("(")[0], each["layer"]), []).append(each["alignment"])
    return {cell: mean(each) for cell, each in values.items()}


def text(network: str) -> str:
    if not found(network)["rows"]:
        return NOT_YET
    worth = {row.arm: row.worth.value for row in known(network) if row.epoch is None and row.worth}
    aligned = {name: value for name, value in alignment(network).items() if name in worth}
    rho = ranks.correlation(list(aligned.values()), [worth[name] for name in aligned])
    told = f"Alignment tells the order of worth with Spearman's ρ = {ranks.text(rho)}."
    return f"{table(rows(network))}\n\n{told}\n\n![Time saved against worth, {network}](worth-{network}.png)\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    measured = commands.add_parser("measure")
    measured.add_argument("images")
    measured.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    commands.add_parser("page")
    asked = parser.parse_args()
    if asked.what == "measure":
        for network in asked.networks:
            measure(network, asked.images)
        return
    for network in NETWORKS:
        part(network).put(text(network))
        if known(network):
            forked = f"forks of {STEPS[network]} steps after each of {CHECKPOINTS} epochs"
            title = f"{network} on cifar10-jpeg75, {forked}"
            picture.draw(known(network), title, DOCS / f"worth-{network}.png")


if __name__ == "__main__":
    main()
