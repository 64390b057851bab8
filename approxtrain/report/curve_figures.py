"""Loss and accuracy by epoch, as Figures 5 to 8 of the paper; the same of runs that are no row of it; and how near the
approximated weight gradients are to the exact ones, from rows of probes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from approxtrain.paper.experiments import method_of
from approxtrain.report import drawing
from approxtrain.report.document import Picture
from approxtrain.report.drawing import Line
from approxtrain.report.selection import Protocol, RowRuns, Selection
from approxtrain.run.archive import Archive
from approxtrain.run.curves import schedule_title
from approxtrain_kernels.methods import all_methods


class Panel(NamedTuple):
    name: str
    heading: str
    key: str
    x: str = "epoch"
    percent: bool = False

    def series(self, rows: Iterable[Mapping[str, Any]]) -> dict[float, float]:
        """x → the mean of the finite values there."""
        values: dict[float, list[float]] = {}
        for row in rows:
            if math.isfinite(row.get(self.key, math.nan)):
                values.setdefault(float(row[self.x]), []).append(row[self.key])
        return {x: (100.0 if self.percent else 1.0) * float(np.mean(each)) for x, each in values.items()}


TRAINING = (
    Panel("loss", "training loss", "train_loss"),
    Panel("accuracy", "validation accuracy", "validation_accuracy", percent=True),
)
GRADIENTS = (
    Panel("cosine-layer", "cosine", "cosine", "layer"),
    Panel("cosine-epoch", "cosine over the run", "cosine"),
    Panel("norm-ratio-layer", "norm ratio", "norm_ratio", "layer"),
    Panel("sign-disagreement-layer", "sign disagreement", "sign_disagreement", "layer", percent=True),
    Panel("dead-planes-layer", "dead planes", "dead_planes", "layer", percent=True),
)


def training(selection: Selection) -> list[Picture]:
    """Two panels for each schedule of which something was run.

    Where no run of a row finished, what was stopped is drawn as far as it came."""

    def line(runs: RowRuns, panel: Panel) -> Line:
        stopped = "" if runs.finished or not runs.failed else " (stopped)"
        seeds = [panel.series(archive.epochs) for archive in (runs.finished or runs.failed).values()]
        return Line(runs.row.short + stopped, runs.row.method, seeds)

    return _by_group(selection, selection.experiment.name, selection.experiment.title, TRAINING, line)


def gradients(selection: Selection) -> list[Picture]:
    """Five panels for each schedule, of the rows that were probed."""
    zero = {name for name, method in all_methods().items() if not method.needs}

    def line(runs: RowRuns, panel: Panel) -> Line:
        probes = [archive.probes for archive in runs.finished.values() if archive.probes]
        seeds = [panel.series(row for row in rows if row["method"] not in zero) for rows in probes]
        return Line(runs.row.short, runs.row.method, [seed for seed in seeds if seed])

    model = selection.experiment.model
    return _by_group(selection, f"gradient-{model}", model, GRADIENTS, line)


def of_archives(archives: Iterable[Archive]) -> list[Picture]:
    """Two panels for each network, a line for each schedule and protocol."""
    alike: dict[str, dict[str, list[Archive]]] = {}
    for archive in archives:
        title = f"{schedule_title(archive.config['schedule'])}, {Protocol.of(archive).title}"
        alike.setdefault(archive.config["model"]["name"], {}).setdefault(title, []).append(archive)
    pictures = []
    for model, by_title in alike.items():

        def lines(panel: Panel, by_title: dict[str, list[Archive]] = by_title) -> list[Line]:
            return [
                Line(title, method_of(runs[0].config), [panel.series(run.epochs) for run in runs])
                for title, runs in by_title.items()
            ]

        pictures += _panels(f"other-{model}", model, "", TRAINING, lines)
    return pictures


def _by_group(
    selection: Selection, name: str, title: str, panels: Sequence[Panel], line: Callable[[RowRuns, Panel], Line]
) -> list[Picture]:
    """The panels of each schedule that has a line of its own."""
    pictures = []
    for group in selection.experiment.groups or ("",):
        shown = [runs for runs in selection.rows if runs.row.group in ("", group)]
        if any(line(runs, panels[0]).seeds for runs in shown if runs.row.group == group):
            stem = f"{name}-{group.replace(' ', '')}" if group else name
            lines = lambda panel, shown=shown: [line(runs, panel) for runs in shown]  # noqa: E731
            pictures += _panels(stem, title, group, panels, lines)
    return pictures


def _panels(
    stem: str, title: str, group: str, panels: Sequence[Panel], lines: Callable[[Panel], list[Line]]
) -> list[Picture]:
    pictures = []
    for panel in panels:
        heading = panel.heading + (f", {group}" if group else "")
        options = {"x": panel.x, "heading": heading, "percent": panel.percent, "zoom": panels is TRAINING}
        pictures.append(drawing.curves(f"{stem}-{panel.name}", title, lines(panel), **options))
    return [picture for picture in pictures if picture]
