"""What a run came to, from the rows of its metrics.jsonl: accuracies and losses, of each seed and over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def over_seeds(name: str, values: Sequence[float]) -> dict[str, float]:
    """{name: value} of one seed; of several the mean, and as `name`_sd the sample standard deviation."""
    if len(values) == 1:
        return {name: values[0]}
    return {name: statistics.fmean(values), f"{name}_sd": statistics.stdev(values)}


def outcome(found: list[Row], seeds: Sequence[int]) -> dict[str, Any]:
    """Final and best validation accuracy and the last training loss.

    Of several seeds they are means, each with a standard deviation; `by_seed` has what each came to, with the epoch of
    its own best.
    """
    if len(seeds) == 1:
        return _of_one(found)
    each = [{"seed": seed} | _of_one([row for row in found if row["seed"] == seed]) for seed in seeds]
    total: dict[str, Any] = {}
    for name in ("final_accuracy", "best_accuracy", "final_train_loss"):
        total |= over_seeds(name, [one[name] for one in each])
    return total | {"by_seed": each}


def _of_one(found: list[Row]) -> dict[str, Any]:
    validation = [row for row in found if row["kind"] == "validation"]
    train = [row for row in found if row["kind"] == "train"]
    best = max(validation, key=lambda row: row["accuracy"])
    return {
        "final_accuracy": validation[-1]["accuracy"],
        "best_accuracy": best["accuracy"],
        "best_epoch": best["epoch"],
        "final_train_loss": train[-1]["loss"],
    }
