"""Whether a schedule takes the time that `schedule-tune` predicts: a table of docs/schedule-tune.md.

python -m tools.predicted_times measure    # minutes, in which the machine must be quiet
python -m tools.predicted_times page       # writes the table

The command times each method in each group of layers and adds up what they save; `bench-step` times whole schedules.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator

from approxtrain import disk
from approxtrain.config import load
from approxtrain.run import process
from approxtrain.run.environment import this_environment
from tools import arms
from tools.rendered import DOCS, NOT_YET, ROOT, Part, table

PREDICTED, MEASURED = ROOT / "results/predictor/times.json", ROOT / "results/bench/schedules-resnet20-cpu.json"
PART = Part(
    DOCS / "schedule-tune.md", "from results/predictor/times.json and results/bench/schedules-resnet20-cpu.json"
)
PRESETS = {
    "resnet20-pooled": [f"pooled, layers {layers}" for layers in ("2 to 7", "8 to 13", "14 to 19")],
    "resnet20-coarse": [f"coarse, layers {layers}" for layers in ("2 to 7", "8 to 13", "14 to 19")],
    "resnet20-prefix": ["frozen prefix, layers 1 to 7, every 2nd step"],
}
"""Each with the options of `schedule-tune` that it is put together from."""
IMAGES = "data.name=shapes"
"""What is on them makes no difference to the time."""


def measure() -> None:
    arms.refuse_changed_files()
    process.keep_freed_memory()  # as the commands do, before jax starts
    from approxtrain.training.workload import Workload
    from approxtrain.worth.options import options_of
    from approxtrain.worth.step_times import Span, step_times

    work = Workload.of(load("resnet20-full", [IMAGES]))
    options = options_of(work.model.layers, ["pooled", "coarse"])
    times = step_times(work, {each.name: Span(each.arm.schedule, 0, each.every) for each in options})
    disk.write_json(PREDICTED, {"times": times, "environment": this_environment()})
    bench = ["bench-step", *PRESETS, IMAGES, "--peer", "none", "--rounds", "20", "--json", str(MEASURED)]
    subprocess.run([sys.executable, "-m", "approxtrain_cli", *bench], check=True)


def predicted(preset: str) -> float:
    """Share of the exact step's time."""
    times = json.loads(PREDICTED.read_text("utf-8"))["times"]
    return 1 - sum(1 - times[option] for option in PRESETS[preset])


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    contenders = json.loads(MEASURED.read_text("utf-8"))["contenders"]
    yield "preset", "predicted", "measured by `bench-step`", "difference"
    for preset in PRESETS:
        over, time = contenders[preset]["ratio_to_full"], predicted(preset)
        low, high = over["low"], over["high"]
        yield (
            f"`{preset}`",
            f"{time:.3f}",
            f"{over['value']:.3f} ({low:.3f} to {high:.3f})",
            f"{time - over['value']:+.3f}".replace("-", "−"),
        )


def page() -> str:
    return f"{table(rows())}\n" if PREDICTED.exists() and MEASURED.exists() else NOT_YET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "page"))
    if parser.parse_args().what == "measure":
        measure()
    else:
        PART.put(page())


if __name__ == "__main__":
    main()
