"""What a run came to, from the rows of its metrics.jsonl: accuracies and losses, of each seed and over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def rank(accuracy: float, loss: float | str | None) -> tuple[float, float]:
    """Sort key of a validation, the best one last: of equal accuracies that with less loss, one that is no number (None
    or a string in JSON) at the end. Of equal ones the earliest is meant."""
    number = math.nan if loss is None else float(loss)
    return accuracy, -number if math.isfinite(number) else -math.inf


def over_seeds(name: str, values: Sequence[float]) -> dict[str, float]:
    """{name: mean of the values}; of several also the sample standard deviation, as `name`_sd."""
    if len(values) == 1:
        return {name: values[0]}
    # statistics.stdev fails on a loss that is not finite
    deviation = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
    return {name: statistics.fmean(values), f"{name}_sd": deviation}


def outcome(rows: list[Row], seeds: Sequence[int]) -> dict[str, Any]:
    """Final and best validation accuracy and the last training loss, over the seeds.

    `by_seed` lists what each came to, with the epoch of its own best.
    """
    each = [{"seed": seed} | _of_one_seed([row for row in rows if row.get("seed", seed) == seed]) for seed in seeds]
    total: dict[str, Any] = {}
    for name in ("final_accuracy", "best_accuracy", "final_train_loss"):
        total |= over_seeds(name, [one[name] for one in each])
    return total | {"by_seed": each}


def _of_one_seed(rows: list[Row]) -> dict[str, Any]:
    validation = [row for row in rows if row["kind"] == "validation"]
    train = [row for row in rows if row["kind"] == "train"]
    best = max(validation, key=lambda row: rank(row["accuracy"], row["loss"]))
    return {
        "final_accuracy": validation[-1]["accuracy"],
        "best_accuracy": best["accuracy"],
        "best_epoch": best["epoch"],
        "final_train_loss": train[-1]["loss"],
    }
