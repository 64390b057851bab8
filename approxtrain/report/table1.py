"""Table 1 of the paper, kernel against dense weight gradient, from a JSON of `bench-kernel`; and how its times grow.

Fitted is t = a · C_i^p · (H·W)^q by least squares in logarithms. The paper's second observation is that the dense wgrad
grows with C_i · H·W, its kernel with C_i alone. In all of the shapes C_o = C_i, so that p is the exponent of both
together: it tells that a time grows with the channels, not with which. What tells dense and kernel apart is q.
Imports no jax.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from approxtrain.paper.experiments import TABLE1
from approxtrain.report.estimates import t_quantile
from approxtrain.report.inputs import BenchFile
from approxtrain_kernels.shapes import PAPER

NEARER = 0.5
"""An exponent whose interval lies above it is nearer to 1, one whose interval lies below it nearer to 0."""
_SHAPES = [json.loads(json.dumps(asdict(shape))) for shape in PAPER]
"""The shapes of TABLE1 as a JSON has them."""

Power = tuple[float, float, float]
"""An exponent and its 95 % interval."""


def is_table1(bench: BenchFile) -> bool:
    """Whether it measured weight gradients of `approx` in a shape of the paper's: what the paper's table is about."""
    approximated = bench.content.get("method") == "approx" and bench.content.get("part", "wgrad") == "wgrad"
    return approximated and any(row["shape"] in _SHAPES for row in bench.content["rows"])


def records(bench: BenchFile, dtype: str) -> list[dict[str, Any]]:
    """The rows of the paper with what was measured in this precision."""
    records = []
    for paper, shape in zip(TABLE1, _SHAPES, strict=True):
        rows = (row for row in bench.content["rows"] if (row["dtype"], row["shape"]) == (dtype, shape))
        row = next(rows, None)
        timed = row if row and row["milliseconds"] else None
        ratio = timed["ratio"] if timed else None
        record = {
            "in_channels": paper.in_channels,
            "out_channels": paper.out_channels,
            "size": paper.size,
            "paper_dense_ms": paper.cudnn,
            "paper_kernel_ms": paper.total,
            "paper_times_faster": paper.speed_up,
            "dense_ms": median(timed["milliseconds"]["dense"]) if timed else None,
            "kernel_ms": median(timed["milliseconds"]["method"]) if timed else None,
            "times_faster": 1 / ratio["value"] if ratio else None,
            "times_faster_low": 1 / ratio["high"] if ratio else None,
            "times_faster_high": 1 / ratio["low"] if ratio else None,
            "verdict": ratio["verdict"] if ratio else "wrong, so not timed" if row else "not run",
        }
        records.append(record)
    return records


def growth(bench: BenchFile) -> list[dict[str, Any]]:
    """How times grow with C_i and H·W: the paper's, and ours for each cache and dtype, of its shapes that were timed.

    Empty where these are too few to tell.
    """
    times = {"paper": {(row.in_channels, row.size**2): (row.cudnn, row.kernel) for row in TABLE1}}
    for row in (row for row in bench.content["rows"] if row["shape"] in _SHAPES and row["milliseconds"]):
        sizes = row["shape"]["in_channels"], row["shape"]["height"] * row["shape"]["width"]
        for timed in (row, *row.get("also", {}).values()):
            dense, kernel = (median(timed["milliseconds"][contender]) for contender in ("dense", "method"))
            times.setdefault(f"{timed['cache']}, {row['dtype']}", {})[sizes] = dense, kernel
    found = []
    for where, by_sizes in times.items():
        dense, kernel = (powers(list(by_sizes), each) for each in zip(*by_sizes.values(), strict=True))
        if dense and kernel:
            found.append({"where": where, "second_observation": _observation(dense, kernel)})
            names = (f"{part} {size}" for part in ("dense", "kernel") for size in ("C_i", "H·W"))
            for name, power in zip(names, dense + kernel, strict=True):
                found[-1] |= dict(zip((name, f"{name} low", f"{name} high"), power, strict=True))
    return found if len(found) > 1 else []


def powers(sizes: Sequence[tuple[float, ...]], times: Sequence[float]) -> list[Power]:
    """The exponents of the sizes in `times` (positive), with Student's t intervals.

    Empty where there are not more times than unknowns, or the sizes vary together.
    """
    matrix = np.column_stack([np.ones(len(times)), np.log(np.asarray(sizes, float))])
    logs = np.log(np.asarray(times, float))
    solution, _, rank, _ = np.linalg.lstsq(matrix, logs)
    freedom = len(times) - matrix.shape[1]
    if freedom < 1 or rank < matrix.shape[1]:
        return []
    variance = np.sum((logs - matrix @ solution) ** 2) / freedom
    half_widths = t_quantile(freedom) * np.sqrt(variance * np.diag(np.linalg.inv(matrix.T @ matrix)))
    return [(float(p), float(p - half), float(p + half)) for p, half in zip(solution, half_widths, strict=True)][1:]


def _observation(dense: Sequence[Power], kernel: Sequence[Power]) -> str:
    """The verdict: with the channels both grow, with the map the dense one alone."""
    growing, (_, low, high) = (*dense, kernel[0]), kernel[1]
    if any(each[2] < NEARER for each in growing) or low > NEARER:
        return "does not hold"
    return "holds" if all(each[1] > NEARER for each in growing) and high < NEARER else "inconclusive"
