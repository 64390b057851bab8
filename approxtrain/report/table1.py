"""Table 1 of the paper, kernel against dense weight gradient, from a JSON of `bench-kernel`; and how its times grow.

Fitted is t = a · C_i^p · (H·W)^q by least squares in logarithms. The paper's second observation is that the dense wgrad
grows with C_i · H·W, its kernel with C_i alone. In all of the shapes C_o = C_i, so that p is the exponent of both
together: it tells that a time grows with the channels, not with which. What tells dense and kernel apart is q.
Imports no jax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from approxtrain.paper.experiments import TABLE1, KernelRow
from approxtrain.report.estimates import t_quantile
from approxtrain.report.inputs import BenchFile

BATCH = 128
"""The batch of the paper's training; its table does not state one."""
CHANNELS, MAP = "C_i", "H·W"
NEARER = 0.5
"""An exponent whose interval lies above it is nearer to 1, one whose interval lies below it nearer to 0."""

Fit = dict[str, Any]
"""`coefficient` a in the unit of the times; `exponents`, size → (p, low, high) with the 95 % interval; `residual`, the
standard deviation of log t around the fit; `n` times."""


def is_table1(bench: BenchFile) -> bool:
    """Whether it measured weight gradients of `approx` in a shape of the paper's: what the paper's table is about."""
    approximated = bench.content.get("method") == "approx" and bench.content.get("part", "wgrad") == "wgrad"
    return approximated and bool(_of_the_paper(bench))


def records(bench: BenchFile, dtype: str) -> list[dict[str, Any]]:
    """The rows of the paper with what was measured in this precision."""
    measured = {_shape(row): row for row in bench.content["rows"] if row["dtype"] == dtype}
    return [_record(paper, measured.get(_paper_shape(paper))) for paper in TABLE1]


def growth(bench: BenchFile) -> list[dict[str, Any]]:
    """How the times of the paper's shapes grow, the paper's and ours; empty where too few shapes were measured."""
    try:
        measured = fits(_of_the_paper(bench))
    except ValueError:  # the shapes do not tell the exponents apart
        return []
    records = []
    for where, fit in ({"paper": fit_of_paper()} | measured).items() if measured else ():
        record = {"where": where, "second_observation": fit["second_observation"]}
        for part, size in ((part, size) for part in ("dense", "kernel") for size in (CHANNELS, MAP)):
            names = (f"{part} {size}{bound}" for bound in ("", " low", " high"))
            record |= dict(zip(names, fit[part]["exponents"][size], strict=True))
        records.append(record)
    return records


def power_law(sizes: Mapping[str, Sequence[float]], times: Sequence[float]) -> Fit:
    """Fit `times` (positive) by the sizes of the same length, with Student's t intervals of the exponents.

    ValueError where there are not more times than unknowns, or the sizes do not tell the exponents apart.
    """
    unknowns, n = 1 + len(sizes), len(times)
    if n <= unknowns:
        raise ValueError(f"{n} times do not say how sure {unknowns} unknowns are: it takes at least {unknowns + 1}.")
    matrix = np.column_stack([np.ones(n), *(np.log(np.asarray(size, float)) for size in sizes.values())])
    logs = np.log(np.asarray(times, float))
    solution, _, rank, _ = np.linalg.lstsq(matrix, logs)
    if rank < unknowns:
        raise ValueError(f"the sizes {', '.join(sizes)} vary together: their exponents cannot be told apart.")
    residual = float(np.sqrt(np.sum((logs - matrix @ solution) ** 2) / (n - unknowns)))
    half_widths = t_quantile(n - unknowns) * residual * np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix)))
    bounds = zip(
        *(each[1:].tolist() for each in (solution, solution - half_widths, solution + half_widths)), strict=True
    )
    exponents = dict(zip(sizes, bounds, strict=True))
    return {"coefficient": float(np.exp(solution[0])), "exponents": exponents, "residual": residual, "n": n}


def observation(dense: Fit, kernel: Fit) -> str:
    """The verdict: with the channels both grow, with the map the dense one alone."""
    growing = (dense["exponents"][CHANNELS], dense["exponents"][MAP], kernel["exponents"][CHANNELS])
    _, low, high = kernel["exponents"][MAP]
    if any(each[2] < NEARER for each in growing) or low > NEARER:
        return "does not hold"
    return "holds" if all(each[1] > NEARER for each in growing) and high < NEARER else "inconclusive"


def fit_of_paper() -> dict[str, Any]:
    """The fits of the times that the paper prints, and their verdict."""
    return _fitted({(row.in_channels, row.size**2): (row.cudnn, row.kernel) for row in TABLE1})


def fits(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fits of the rows of `bench-kernel` for each of their caches and dtypes: "cold, float32" → fits.

    Medians of the dense base and of the method; a combination with too few shapes that were timed is left out.
    """
    times: dict[str, dict[tuple[int, int], tuple[float, float]]] = {}
    for row in rows:
        size = row["shape"]["in_channels"], row["shape"]["height"] * row["shape"]["width"]
        for timed in (row, *row.get("also", {}).values()) if row.get("milliseconds") else ():
            dense, kernel = (median(timed["milliseconds"][contender]) for contender in ("dense", "method"))
            times.setdefault(f"{timed['cache']}, {row['dtype']}", {})[size] = dense, kernel
    return {where: _fitted(by_size) for where, by_size in times.items() if len(by_size) > 3}


def _fitted(times: Mapping[tuple[int, int], tuple[float, float]]) -> dict[str, Any]:
    """(C_i, H·W) → (dense, kernel) as both power laws and the verdict."""
    channels, maps = zip(*times, strict=True)
    sizes = {CHANNELS: channels, MAP: maps}
    dense, kernel = (power_law(sizes, each) for each in zip(*times.values(), strict=True))
    return {"dense": dense, "kernel": kernel, "second_observation": observation(dense, kernel)}


def _record(paper: KernelRow, row: Mapping[str, Any] | None) -> dict[str, Any]:
    timed = row if row and row["milliseconds"] else None
    ratio = timed["ratio"] if timed else None
    return {
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


def _of_the_paper(bench: BenchFile) -> list[dict[str, Any]]:
    """The rows that measured a shape of the paper's."""
    wanted = set(map(_paper_shape, TABLE1))
    return [row for row in bench.content["rows"] if _shape(row) in wanted]


def _paper_shape(paper: KernelRow) -> tuple[int, ...]:
    return BATCH, paper.in_channels, paper.out_channels, paper.size, paper.size, 3, 3, 1, 1


def _shape(row: Mapping[str, Any]) -> tuple[int, ...]:
    names = ("batch", "in_channels", "out_channels", "height", "width")
    return (*(row["shape"][name] for name in names), *row["shape"]["kernel_size"], *row["shape"]["strides"])
