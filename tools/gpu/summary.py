"""What `make gpu-bench` found, on one page of Markdown, from the JSON of its stages. What lacks is "not measured"."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tools.gpu.stages import RECORD
from tools.gpu.summary_kernels import cuts, forms, right, table1

ABSENT = "not measured"


def summarise(folder: Path) -> str:
    """The page, for the results in `folder`."""
    return "\n\n".join(["\n".join(_stages(folder)), *sections(folder)]) + "\n"


def sections(folder: Path) -> list[str]:
    """What each stage found, without what became of the stages."""
    found = []
    for name, (title, least, part) in SECTIONS.items():
        rows = _rows(folder, name)
        found.append("\n".join([f"## {title}\n", *(part(rows) if len(rows) >= least else [ABSENT])]))
    return found


def _stages(folder: Path) -> Iterator[str]:
    yield "# GPU bench\n"
    yield "| stage | status | s | what |"
    yield "| --- | --- | ---: | --- |"
    for stage in (_read(folder, RECORD) or {"stages": []})["stages"]:
        why = f": {stage['why']}" if stage["why"] else ""
        yield f"| {stage['name']} | {stage['status']}{why} | {stage['seconds']:.0f} | {stage['what']} |"


def _facts(rows: list[dict[str, Any]]) -> Iterator[str]:
    found, environment = rows[0]["machine"], rows[0]["environment"]
    wrong = [row["operation"] for row in rows[0]["eager"] if not row["right"]]
    said = rows[0]["nvidia_smi"] or {}
    driver = said.get("driver_version", "unknown")
    yield f"{environment['device']}, driver {driver}, jax {environment['versions']['jax']}."
    rates = ", ".join(f"{name} {rate / 1e3:.0f} TFLOP/s" for name, rate in found["gflop_s"].items())
    yield f"Copy {found['bandwidth_gb_s']:.0f} GB/s; products {rates}; an empty call {found['dispatch_us']:.0f} µs."
    yield f"Plain operations that are wrong: {', '.join(wrong) or 'none'}."


def _steps(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row["median_ms"]))
    yield f"| network | {' | '.join(names)} |"
    yield f"| --- | {' | '.join('---:' for _ in names)} |"
    for row in rows:
        cells = [_against(row, name) for name in names]
        yield f"| {row['model']}, {row['precision']} | {' | '.join(cells)} |"


def _against(row: dict[str, Any], name: str) -> str:
    if name not in row["milliseconds"]:
        return "–"
    ratio = row["ratio_to_full"].get(name)
    beside = f" ({ratio['value']:.2f}; {ratio['low']:.2f}–{ratio['high']:.2f})" if ratio else ""
    return f"{median(row['milliseconds'][name]):.3f}{beside}"


def _throughput(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| network | way | ms a step | images a second |"
    yield "| --- | --- | ---: | ---: |"
    for row in rows:
        what = f"{row['model']}, {row['precision']}, batch {row['batch']}"
        for name, rate in row["images_a_second"].items():
            yield f"| {what} | {name} | {median(row['milliseconds'][name]):.3f} | {rate:,.0f} |"
        for name, why in row["failed"].items():
            yield f"| {what} | {name} | failed | {why} |"


def _train(rows: list[dict[str, Any]]) -> Iterator[str]:
    ours, theirs = rows[:2]
    yield f"| | {ours['implementation']} | {theirs['implementation']} |"
    yield "| --- | ---: | ---: |"
    yield f"| test accuracy | {ours['test_accuracy']:.2%} | {theirs['test_accuracy']:.2%} |"
    for number, pair in enumerate(zip(ours["first_losses"], theirs["first_losses"], strict=True), start=1):
        yield f"| loss of step {number} | {pair[0]:.6f} | {pair[1]:.6f} |"


def drift(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"| the losses of {len(rows[0]['first_losses'])} steps | {' | '.join(rows[0]['largest'])} |"
    yield f"| --- | {' | '.join('---:' for _ in rows[0]['largest'])} |"
    for row in rows:
        yield f"| {row['preset']} | {' | '.join(f'{largest:.1e}' for largest in row['largest'].values())} |"


def _rows(folder: Path, stage: str) -> list[dict[str, Any]]:
    found = _read(folder, f"{stage}.json")
    return found["rows"] if found else []


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    try:
        return json.loads((folder / name).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


SECTIONS: dict[str, tuple[str, int, Callable[[list[dict[str, Any]]], Iterator[str]]]] = {
    "facts": ("Device", 1, _facts),
    "right": ("Right, and the same bits each time", 1, right),
    "table1-tf32": ("Table 1, TF32, cold cache", 1, table1),
    "table1-bfloat16": ("Table 1, bfloat16, cold cache", 1, table1),
    "table1-float32": ("Table 1, strict float32, cold cache", 1, table1),
    "forms": ("Each form of approx, µs of kernels, inputs in the cache", 1, forms),
    "cuts": ("Cuttings of the kernel `gather`", 1, cuts),
    "throughput": ("Images a second", 1, _throughput),
    "throughput-graph": ("The same with convolutions in command buffers (CUDA graphs)", 1, _throughput),
    "steps": ("Training steps, ms: every layer by one method (over `full`; 95 % interval)", 1, _steps),
    "train": ("ResNet-20, schedule 1, 2 epochs, one seed", 3, _train),
    "drift": ("How far a run is from itself, largest difference of a loss", 2, drift),
}
"""Stage → heading, the rows that it must have written to be shown, and what is shown of them."""
