"""What `make gpu-bench` found, on one page of Markdown, from the JSON of its stages. What lacks is "not measured"."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from approxtrain.bench.gpu.stages import RECORD

ABSENT = "not measured"
SHOWN = 12
"""Ways of being wrong that are listed."""


def summarise(folder: Path) -> str:
    """The page, for the results in `folder`."""
    parts = ["\n".join(_stages(folder))]
    for name, (title, least, part) in SECTIONS.items():
        rows = _rows(folder, name)
        parts.append("\n".join([f"## {title}\n", *(part(rows) if len(rows) >= least else [ABSENT])]))
    return "\n\n".join(parts) + "\n"


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
    yield f"{environment['device']}, jax {environment['versions']['jax']}, {rows[0]['nvidia_smi'] or 'no nvidia-smi'}"
    rates = ", ".join(f"{name} {rate / 1e3:.0f} TFLOP/s" for name, rate in found["gflop_s"].items())
    yield f"copy {found['bandwidth_gb_s']:.0f} GB/s; products {rates}; an empty call {found['dispatch_us']:.0f} µs"
    yield f"plain operations that are wrong: {', '.join(wrong) or 'none'}"


def _right(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| form | precision | cases | right | largest error | same bits |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for form, precision in dict.fromkeys((row["form"], row["precision"]) for row in rows):
        those = [row for row in rows if (row["form"], row["precision"]) == (form, precision)]
        errors = [row["relative_error"] for row in those if row.get("relative_error") is not None]
        worst = f"{max(errors):.1e}" if errors else ABSENT
        good, same = (sum(bool(row.get(key)) for row in those) for key in ("right", "same_bits"))
        yield f"| {form} | {precision} | {len(those)} | {good} | {worst} | {same} |"
    wrong = Counter(_how(row) for row in rows if not row["right"])
    for number, (how, count) in enumerate(wrong.most_common(SHOWN)):
        yield f"{'' if number else chr(10)}- {count} wrong: {how}"
    if len(wrong) > SHOWN:
        yield f"- and {len(wrong) - SHOWN} more ways; see right.json"


def _how(row: dict[str, Any]) -> str:
    """In what way a row is wrong, for all rows that are so alike."""
    where = f"{row['form']}, {row['precision']}, {row['inputs']} inputs"
    if "error" in row:
        return f"{where}: {row['error']}"
    if not row["same_bits"]:
        return f"{where}: the bits differ from run to run"
    if not row["not_finite_where_due"]:
        return f"{where}: NaN or infinity in the wrong places"
    return f"{where}: the error is above {row['tolerance']:g}"


def _forms(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row["forms"]))
    yield f"| shape | precision | {' | '.join(names)} | chosen | fastest |"
    yield f"| --- | --- | {' | '.join('---:' for _ in names)} | --- | --- |"
    hits: Counter[bool] = Counter()
    for row in rows:
        shape = row["shape"]
        what = f"{shape['in_channels']}→{shape['out_channels']} {shape['height']}×{shape['width']}"
        times = {name: form["wall_us_median"] for name, form in row["forms"].items() if "wall_us_median" in form}
        sparse = {name: time for name, time in times.items() if name != "full"}
        best = min(sparse, key=lambda name: sparse[name], default=ABSENT)
        hits[best == row["chosen"]] += 1
        cells = " | ".join(_form(row["forms"].get(name)) for name in names)
        yield f"| {what} | {row['precision']} | {cells} | {row['chosen']} | {best} |"
    yield f"\nthe model chose the fastest form in {hits[True]} of {hits.total()} rows"


def _form(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    model = f"{found['model']['seconds'] * 1e6:.0f}"
    if "wall_us_median" not in found:
        return f"{found['failed'][:40]} (model {model})"
    kernels = found["kernels_us"]
    alone = ABSENT if isinstance(kernels, str) else f"{sum(time for _, time in kernels):.0f}"
    return f"{found['wall_us_median']:.0f} ({alone}; {model})"


def _steps(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row["median_ms"]))
    yield f"| network | {' | '.join(names)} |"
    yield f"| --- | {' | '.join('---:' for _ in names)} |"
    for row in rows:
        cells = [f"{median(row['milliseconds'][name]):.3f}" if name in row["milliseconds"] else "–" for name in names]
        yield f"| {row['model']}, {row['precision']} | {' | '.join(cells)} |"


def _train(rows: list[dict[str, Any]]) -> Iterator[str]:
    ours, theirs = rows[:2]
    yield f"| | {ours['implementation']} | {theirs['implementation']} |"
    yield "| --- | ---: | ---: |"
    yield f"| test accuracy | {ours['test_accuracy']:.2%} | {theirs['test_accuracy']:.2%} |"
    for number, pair in enumerate(zip(ours["first_losses"], theirs["first_losses"], strict=True), start=1):
        yield f"| loss of step {number} | {pair[0]:.6f} | {pair[1]:.6f} |"


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
    "right": ("Right, and the same bits each time", 1, _right),
    "forms": ("Forms of approx, µs: measured on cold inputs (kernels alone, hot; the model)", 1, _forms),
    "steps": ("Training steps, ms: every layer by one method", 1, _steps),
    "train": ("ResNet-20, schedule 1, 2 epochs, one seed", 3, _train),
}
"""Stage → heading, the rows that it must have written to be shown, and what is shown of them."""
