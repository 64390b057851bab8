"""Arms of an experiment: training runs that differ in one thing, seed by seed, and the pages that show them.

Each run is one JSON in the experiment's folder of results/, written when it ends. What is killed goes on from its last
checkpoint; what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from approxtrain.config import Config, load
from approxtrain.run import archive
from approxtrain.run.environment import git_commit
from approxtrain.run.folder import CONFIG
from tools.rendered import ROOT

IMAGES, HELD_OUT, BATCH = 45_000, 5_000, 128
"""Of cifar10-jpeg75: trained on, and held out to decide (the test split is only reported); of a step."""
COMMON = (
    *("data.name=cifar10-jpeg75", f"data.holdout={HELD_OUT}", f"train.batch_size={BATCH}", "train.validate_every=1"),
    *("train.trackers=[]", "optimizer.rate=linear", "optimizer.final=0.0"),
)
"""A rate that falls linearly to zero over the run, whatever its length: the same shape for every arm."""


def command_line(description: str, arms: Iterable[str]) -> tuple[argparse.ArgumentParser, Any]:
    """`train DIR --seeds … --arms …` and `page`; and its commands, for others to be added."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    trained = commands.add_parser("train")
    trained.add_argument("images")
    trained.add_argument("--seeds", type=int, nargs="+", default=[0])
    trained.add_argument("--arms", nargs="+", choices=list(arms), default=list(arms))
    commands.add_parser("page")
    return parser, commands


def refuse_changed_files() -> None:
    """A result names the commit that it is of."""
    if (git_commit() or "-dirty").endswith("-dirty"):
        sys.exit("There are changes that are not committed, so that a result would be of no commit: use a clean clone.")


def refuse_another(found: Config, wanted: Config, where: Path) -> None:
    """What was trained before the arm became another one is no result of it."""
    nothing = {"name": "", "sha256": ""}
    if archive.identity(found, nothing) != archive.identity(wanted, nothing):
        sys.exit(f"{where} is of another configuration than its arm by now: remove it, and it is trained again.")


def train(results: Path, arms: Mapping[str, Sequence[str]], asked: argparse.Namespace) -> None:
    """What is missing of the arms that were asked for, each a preset and overrides, seed by seed."""
    refuse_changed_files()
    for seed in asked.seeds:
        for name in asked.arms:
            preset, *overrides = arms[name]
            target, run = results / f"{name}-seed{seed}.json", ROOT / f"runs/{results.name}/{name}-seed{seed}"
            wanted = load(preset, [*overrides, f"train.seed={seed}"])
            if target.exists():
                refuse_another(Config.model_validate(archive.read(target).config), wanted, target)
                continue
            if (run / CONFIG).exists():
                refuse_another(load(str(run / CONFIG)), wanted, run)
                what = ["--resume", str(run)]
            else:
                what = [preset, *overrides, f"train.seed={seed}", "--out", str(run)]
            subprocess.run(
                [sys.executable, "-m", "approxtrain_cli", "train", *what, f"data.dir={asked.images}"], check=True
            )
            (found,) = archive.of_folder(run)
            archive.write(target, found)


def accuracies(results: Path, name: str) -> dict[int, float]:
    """Seed → accuracy on the held-out images at the end, in percent."""
    found = (archive.read(file) for file in sorted(results.glob(f"{name}-seed*.json")))
    return {run.seed: 100 * run.summary["final_accuracy"] for run in found}
