"""How near the approximated weight gradients are to the exact ones, by layer and over the run, from rows of probes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from approxtrain.report import curves, drawing
from approxtrain.report.document import Figure, Picture
from approxtrain.report.drawing import Line
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.run.archive import Archive

_PANELS = (
    ("cosine", "layer", "cosine"),
    ("cosine", "epoch", "cosine over the run"),
    ("norm_ratio", "layer", "norm ratio"),
    ("sign_disagreement", "layer", "sign disagreement"),
    ("dead_planes", "layer", "dead planes"),
)
_SHARES = ("sign_disagreement", "dead_planes")


def figure(selection: Selection) -> Figure | None:
    """Five panels for each schedule, of the rows that were probed; None where none was."""
    pictures: list[Picture] = []
    for group in selection.experiment.groups or ("",):
        chosen = [runs for runs in selection.rows if runs.row.group in ("", group) and _probed(runs)]
        if not any(runs.row.group == group for runs in chosen):
            continue
        pictures += [picture for panel in _PANELS if (picture := _panel(selection, chosen, group, *panel))]
    if not pictures:
        return None
    text = (
        f"Quality of the approximated weight gradients, {selection.experiment.model}: {selection.protocol.title}. "
        "Cosine to the exact gradient and ratio of their norms; share of the planes of dO (one image, one channel) "
        "whose sum and largest entry differ in sign, and of those that are zero everywhere. Means over the probed "
        "steps (over layers too, where the run is the axis), bands from the lowest to the highest seed. `zero`, "
        "whose cosine and norm are 0, is not drawn."
    )
    return Figure(text, tuple(pictures))


def _panel(
    selection: Selection, chosen: Sequence[RowRuns], group: str, key: str, x: str, heading: str
) -> Picture | None:
    factor = 100.0 if key in _SHARES else 1.0
    lines = [line for runs in chosen if (line := _line(runs, key, x, factor)) is not None]
    if not lines:
        return None
    name = "-".join(["gradient", selection.experiment.model, *group.split(), key.replace("_", "-"), x])
    name = name.replace("schedule-", "schedule")
    heading += f", {group}" if group else ""
    alt = f"{heading} by {x}, {selection.experiment.model}"
    ticks = "{x:g} %" if key in _SHARES else "{x:g}"
    return drawing.lines(
        name, alt, lines, x=x, heading=heading, ticks=ticks, log=key == "norm_ratio" and _decades(lines)
    )


def _line(runs: RowRuns, key: str, x: str, factor: float) -> Line | None:
    """The mean of `key` at each value of `x`, over all else that is probed, and its range over the seeds."""
    series = [means for archive in _probed(runs) if (means := _means(archive.probes, key, x))]
    places = sorted(set.intersection(*(set(one) for one in series))) if series else []
    if not places:
        return None
    values = factor * np.array([[one[place] for place in places] for one in series])
    mean, low, high = (tuple(bound.tolist()) for bound in (values.mean(0), values.min(0), values.max(0)))
    return Line(curves.short(runs.row), curves.look(runs.row), tuple(map(float, places)), mean, low, high, len(series))


def _decades(lines: Sequence[Line]) -> bool:
    """Whether they lie too far apart for an even scale."""
    values = [value for line in lines for value in line.mean]
    return min(values) > 0 and max(values) > 5 * min(values)


def _means(probes: Iterable[dict], key: str, x: str) -> dict[float, float]:
    found: dict[float, list[float]] = {}
    for row in probes:
        if row["method"] != "zero" and math.isfinite(row[key]):
            found.setdefault(row[x], []).append(row[key])
    return {place: float(np.mean(values)) for place, values in found.items()}


def _probed(runs: RowRuns) -> list[Archive]:
    return [archive for _, archive in sorted(runs.finished.items()) if archive.probes]
