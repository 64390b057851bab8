"""The parts of `summary` that are about kernels by themselves: lines of Markdown from the rows of a stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import geometric_mean, median
from typing import Any

ABSENT = "not measured"
SHOWN = 12
"""Ways of being wrong that are listed."""


def right(rows: list[dict[str, Any]]) -> Iterator[str]:
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


def table1(rows: list[dict[str, Any]]) -> Iterator[str]:
    """From the JSON of `bench-kernel`."""
    yield "| shape | dense, µs | kernel, µs | speed-up | of the bandwidth | error | verdict | in a vjp |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |"
    ups = []
    for row in rows:
        if row["failed"]:
            yield f"| {_shape(row)} | FAIL | | | | | | |"
            continue
        dense, kernel = (1e3 * median(row["milliseconds"][name]) for name in ("dense", "method"))
        kernel += 1e3 * median(row["layout_milliseconds"]["method"])
        share = row["contenders"]["method"]["share_of_bandwidth"]
        felt = row["ratios"]["vjp method/vjp full"]
        ratio = row["ratio"]
        ups.append(1 / ratio["value"])
        yield (
            f"| {_shape(row)} | {dense:.1f} | {kernel:.1f} | {_up(ratio)} | {share:.0%} | "
            f"{row['relative_error']['method']:.0e} | {ratio['verdict']} | {_up(felt)} |"
        )
    yield f"\n{_together(ups)}"


def _up(ratio: dict[str, Any]) -> str:
    return f"{1 / ratio['value']:.2f} ({1 / ratio['high']:.2f}–{1 / ratio['low']:.2f})"


def _together(ups: list[float]) -> str:
    return f"Geometric mean {geometric_mean(ups):.2f}; faster on {sum(up > 1 for up in ups)} of {len(ups)}."


def forms(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Time of the kernels by CUPTI; the wall clock of calls one after the other is in the JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row["forms"]))
    yield f"| shape | precision | {' | '.join(names)} | fastest | full over it |"
    yield f"| --- | --- | {' | '.join('---:' for _ in names)} | --- | ---: |"
    ups: dict[str, list[float]] = {}
    hits: Counter[bool] = Counter()
    for row in rows:
        times = {name: _kernels(form) for name, form in row["forms"].items()}
        known = {name: time for name, time in times.items() if time is not None and name != "full"}
        best = min(known, key=lambda name: known[name], default=ABSENT)
        hits[best == row["chosen"]] += 1
        full = times.get("full")
        if full is not None and known:
            ups.setdefault(row["precision"], []).append(full / known[best])
        up = f"{full / known[best]:.2f}" if full is not None and known else "–"
        cells = " | ".join(_form(row["forms"].get(name)) for name in names)
        yield f"| {_shape(row)} | {row['precision']} | {cells} | {best} | {up} |"
    yield ""
    for precision, found in ups.items():
        yield f"- {precision}, the fastest form: {_together(found)}"
    yield f"- What the model chose then was the fastest form in {hits[True]} of {hits.total()} rows."


def _form(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    if "failed" in found:
        return found["failed"][:40]
    time = _kernels(found)
    return ABSENT if time is None else f"{time:.1f}"


def _kernels(found: dict[str, Any]) -> float | None:
    kernels = found.get("kernels_us")
    return sum(time for _, time in kernels) if isinstance(kernels, list) else None


def cuts(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| shape | precision | fastest: co × ci, warps, splits | µs | slowest: co × ci, warps, splits | µs | of |"
    yield "| --- | --- | --- | ---: | --- | ---: | ---: |"
    for row in rows:
        timed = sorted(
            (time, _blocks(cut["plan"]["blocks"])) for cut in row["cuts"] if (time := _kernels(cut)) is not None
        )
        (low, first), (high, last) = timed[0], timed[-1]
        yield (f"| {_shape(row)} | {row['precision']} | {first} | {low:.1f} | {last} | {high:.1f} | {len(timed)} |")


def _blocks(blocks: dict[str, Any]) -> str:
    return f"{blocks['co']} × {blocks['ci']}, {blocks['warps']}, {blocks['splits']}"


def _shape(row: dict[str, Any]) -> str:
    shape = row["shape"]
    return f"{shape['in_channels']}→{shape['out_channels']} {shape['height']}×{shape['width']}"
