"""Whether a schedule takes the time that `schedule-tune` predicts: a table of docs/schedule-tune.md.

python -m tools.predicted_times measure DIR    # a quarter of an hour, in which the machine must be quiet
python -m tools.predicted_times page           # writes the table

The command times each method in each group of layers and adds up what they save; `bench-step` times the whole schedule.
DIR is a folder with the images of `cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from approxtrain import disk
from tools import arms
from tools.frontier.families import FAMILIES, WHOLE
from tools.rendered import DOCS, NOT_YET, ROOT, Part, table

PREDICTED, MEASURED = ROOT / "results/predictor/times.json", ROOT / "results/bench/step-schedules-cpu.json"
PART = Part(DOCS / "schedule-tune.md", "from results/predictor/times.json and results/bench/step-schedules-cpu.json")
PRESETS = {
    "resnet20-pooled": [f"pooled, layers {layers}" for layers in ("2 to 7", "8 to 13", "14 to 19")],
    "resnet20-coarse": [f"coarse, layers {layers}" for layers in ("2 to 7", "8 to 13", "14 to 19")],
    "resnet20-prefix": ["frozen prefix, layers 1 to 7, every 2nd step"],
}
"""Each with the options of `schedule-tune` that it is put together from."""


def measure(folder: str) -> None:
    arms.refuse_changed_files()
    out = ROOT / "runs/predicted-times"
    shutil.rmtree(out, ignore_errors=True)
    preset, *overrides = FAMILIES["resnet20"].command(WHOLE)
    options = ["--method", "pooled", "--method", "coarse", "--epochs", "2", "--steps", "24", "--forks", "2"]
    what = [preset, *overrides, f"data.dir={folder}", "--budget", "time=0.9", *options]
    _run("schedule-tune", *what, "--out", str(out / "tuned.toml"))
    (found,) = out.glob("tune-*/tune.json")
    disk.write_json(PREDICTED, json.loads(found.read_text("utf-8")))
    _run("bench-step", *PRESETS, "data.name=shapes", "--peer", "none", "--rounds", "20", "--json", str(MEASURED))


def _run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "approxtrain_cli", *command], check=True)


def predicted(preset: str, options: dict[str, dict[str, Any]]) -> float:
    """Share of the exact step's time."""
    return 1 - sum(1 - options[name]["time"] for name in PRESETS[preset])


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    options = {each["option"]: each for each in json.loads(PREDICTED.read_text("utf-8"))["measured"]}
    contenders = json.loads(MEASURED.read_text("utf-8"))["contenders"]
    yield "preset", "predicted", "measured by `bench-step`", "difference"
    for preset in PRESETS:
        over, time = contenders[preset]["ratio_to_full"], predicted(preset, options)
        low, high = over["low"], over["high"]
        yield (
            f"`{preset}`",
            f"{time:.3f}",
            f"{over['value']:.3f} ({low:.3f} to {high:.3f})",
            f"{time - over['value']:+.3f}",
        )


def page() -> str:
    return f"{table(rows())}\n" if PREDICTED.exists() and MEASURED.exists() else NOT_YET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("measure").add_argument("images")
    commands.add_parser("page")
    asked = parser.parse_args()
    if asked.what == "measure":
        measure(asked.images)
    else:
        PART.put(page())


if __name__ == "__main__":
    main()
