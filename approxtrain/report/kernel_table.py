"""Table 1 of the paper, kernel against dense weight gradient, from a JSON of `bench-kernel`."""

from __future__ import annotations

from statistics import median
from typing import Any

from approxtrain.paper import experiments
from approxtrain.paper.experiments import KernelRow
from approxtrain.report import kernel_growth
from approxtrain.report.document import Cell, Table
from approxtrain.report.inputs import Measured
from approxtrain.report.wording import NOTHING

BATCH = 128
"""Of the paper's training; its table does not state one."""
_COLD = "inputs out of the cache"
CACHES = {"cold": _COLD, "both": _COLD, "hot": "inputs in the cache"}
"""What was asked of `bench-kernel` → where the inputs of a row's own times were."""
HEADER = (
    "shape",
    "paper: cuDNN, ms",
    "kernel and transposes, ms",
    "times faster",
    "ours: dense, ms",
    "kernel, ms",
    "times faster",
    "measurement",
)


def is_table1(measured: Measured) -> bool:
    """Whether it measured weight gradients of `approx` in a shape of the paper's: what the paper's table is about."""
    approximated = measured.values.get("method") == "approx" and measured.values.get("part", "wgrad") == "wgrad"
    return approximated and bool(_of_the_paper(measured))


def dtypes(measured: Measured) -> list[str]:
    """The precisions that it has rows of."""
    return list(dict.fromkeys(row["dtype"] for row in measured.values["rows"]))


def table(measured: Measured, dtype: str, name: str) -> Table:
    """A row of the paper each that was measured in this precision, and the paper's others as not run."""
    found = {_key(row["shape"]): row for row in measured.values["rows"] if row["dtype"] == dtype}
    rows, records = [], []
    for paper in experiments.get("table1").kernel_rows:
        row = found.get(_paper_key(paper))
        rows.append(_cells(paper, row))
        records.append(_record(paper, row))
    return Table(name, HEADER, tuple(rows), tuple(records))


def growth(measured: Measured, name: str) -> Table | None:
    """How the times of the paper's shapes grow with channels and map, the paper's and ours; None where too few of them
    were measured."""
    try:
        fits = {"paper": kernel_growth.of_paper()} | kernel_growth.of_document({"rows": _of_the_paper(measured)})
    except ValueError:  # the shapes do not tell the two apart
        return None
    rows, records = [], []
    for where, found in fits.items():
        powers = [(part, size) for part in ("dense", "kernel") for size in (kernel_growth.CHANNELS, kernel_growth.MAP)]
        exponents = {(part, size): found[part]["exponents"][size] for part, size in powers}
        texts = [f"{value:.2f} ({low:.2f} to {high:.2f})".replace("-", "−") for value, low, high in exponents.values()]
        rows.append((Cell(where), *map(Cell, texts), Cell(found["second_observation"])))
        flat = {f"{part} {size}": value for (part, size), (value, _, _) in exponents.items()}
        records.append({"where": where, **flat, "second_observation": found["second_observation"]})
    header = (
        "times of",
        "dense: C_i to the",
        "H·W to the",
        "kernel: C_i to the",
        "H·W to the",
        "the paper's observation",
    )
    return Table(name, header, tuple(rows), tuple(records)) if len(rows) > 1 else None


def _cells(paper: KernelRow, row: dict[str, Any] | None) -> tuple[Cell, ...]:
    shape = f"{paper.in_channels}→{paper.out_channels}, {paper.size}×{paper.size}"
    printed = [Cell(shape), Cell(f"{paper.cudnn:.2f}"), Cell(f"{paper.total:.2f}"), Cell(f"{paper.speed_up:.1f}")]
    if row is None:
        return (*printed, *[Cell(NOTHING)] * 3, Cell("not run", "missing"))
    if not row["milliseconds"]:
        return (*printed, *[Cell(NOTHING)] * 3, Cell("wrong, so not timed", "missing"))
    record = _record(paper, row)
    between = f" ({record['times_faster_low']:.2f} to {record['times_faster_high']:.2f})"
    return (
        *printed,
        Cell(f"{record['dense_ms']:#.3g}"),
        Cell(f"{record['kernel_ms']:#.3g}"),
        Cell(f"{record['times_faster']:.2f}{between}"),
        Cell(record["verdict"]),
    )


def _record(paper: KernelRow, row: dict[str, Any] | None) -> dict[str, Any]:
    timed = row if row is not None and row["milliseconds"] else None
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
        "verdict": ratio["verdict"] if ratio else None,
    }


def _of_the_paper(measured: Measured) -> list[dict[str, Any]]:
    """Its rows in shapes of the paper's."""
    wanted = {_paper_key(paper) for paper in experiments.get("table1").kernel_rows}
    return [row for row in measured.values["rows"] if _key(row["shape"]) in wanted]


def _paper_key(paper: KernelRow) -> tuple[int, ...]:
    return BATCH, paper.in_channels, paper.out_channels, paper.size, paper.size, 3, 3, 1, 1


def _key(shape: dict[str, Any]) -> tuple[int, ...]:
    names = ("batch", "in_channels", "out_channels", "height", "width")
    return (*(shape[name] for name in names), *shape["kernel_size"], *shape["strides"])
