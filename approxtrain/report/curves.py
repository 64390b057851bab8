"""Figures 5 to 8 of the paper: training loss and validation accuracy against the epoch, for the rows that were run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from approxtrain.paper.experiments import Row
from approxtrain.report import drawing
from approxtrain.report.document import Figure, Picture
from approxtrain.report.drawing import Line, Look
from approxtrain.report.selection import RowRuns, Selection
from approxtrain.report.wording import counted
from approxtrain.run.archive import Archive

_COLOURS = {"Full": "ink", "Zero": "zero", "Random": "random", "Approx.": "approx", "Pooled": "pooled"}
_MARKERS = {"schedule 1": "o", "schedule 2": "s", "schedule 3": "^"}


def figure(selection: Selection) -> Figure | None:
    """The panels of an experiment, two for each schedule; a line a row, a band from its lowest to its highest seed.

    None where no run has an epoch to draw.
    """
    pictures: list[Picture] = []
    for group in selection.experiment.groups or ("",):
        chosen = [runs for runs in selection.rows if runs.row.group in ("", group)]
        drawn = [runs for runs in chosen if runs.row.group == group and _archives(runs)]
        if not drawn:  # of this schedule nothing was run
            continue
        pictures += [picture for picture in (_panel(selection, chosen, group, kind) for kind in _PANELS) if picture]
    if not pictures:
        return None
    missing = [" ".join([runs.row.group, short(runs.row)]).strip() for runs in selection.rows if not _archives(runs)]
    left = f" Not run: {', '.join(missing)}." if missing else ""
    text = (
        f"{selection.experiment.title}: {selection.protocol.title} (the paper: {selection.paper_epochs}). Lines are "
        f"means, bands reach from the lowest to the highest seed.{left}"
    )
    return Figure(text, tuple(pictures))


def look(row: Row) -> Look:
    """A row's colour is its method's, its dash tells two rows of one method apart, its marker is its schedule's."""
    if row.label.startswith("ResNet"):
        return Look("smaller", marker="D")
    plain = row.label.partition(",")[0].endswith("Gradient") and not (row.ours and row.paper)
    return Look(_COLOURS[row.label.split()[0]], "solid" if plain else "dashed", _MARKERS.get(row.group, "o"))


def short(row: Row) -> str:
    """What a line is called: "zero", "approx., scale 1"."""
    return row.label if row.label.startswith("ResNet") else row.label.replace(" Gradient", "").lower()


_PANELS = {
    "loss": ("train_loss", "training loss", 1.0, "{x:g}"),
    "accuracy": ("validation_accuracy", "validation accuracy", 100.0, "{x:g} %"),
}


def _panel(selection: Selection, chosen: Sequence[RowRuns], group: str, kind: str) -> Picture | None:
    key, heading, factor, ticks = _PANELS[kind]
    lines = [line for runs in chosen if (line := _line(runs, key, factor)) is not None]
    if not lines:
        return None
    heading += f", {group}" if group else ""
    name = "-".join([selection.experiment.name, *group.split(), kind]).replace("schedule-", "schedule")
    alt = f"{selection.experiment.title}: {heading} by epoch, {counted(len(lines), 'line')}"
    return drawing.lines(name, alt, lines, x="epoch", heading=heading, ticks=ticks, zoom=True)


def _line(runs: RowRuns, key: str, factor: float) -> Line | None:
    """The epochs that every run of the row has a finite value for. What diverged or is unfinished is drawn as far as it
    came where no run of the row finished, and does not cut the others short."""
    series = [
        {row["epoch"]: factor * row[key] for row in archive.epochs if math.isfinite(row.get(key, math.nan))}
        for archive in _archives(runs)
    ]
    epochs = sorted(set.intersection(*(set(one) for one in series))) if series else []
    if not epochs:
        return None
    values = np.array([[one[epoch] for epoch in epochs] for one in series])
    bounds = (values.mean(0), values.min(0), values.max(0))
    mean, low, high = (tuple(bound.tolist()) for bound in bounds)
    stopped = "" if runs.finished else " (stopped)"
    return Line(short(runs.row) + stopped, look(runs.row), tuple(map(float, epochs)), mean, low, high, len(series))


def _archives(runs: RowRuns) -> list[Archive]:
    return list((runs.finished or runs.failed).values())
