"""Panels in one look, with a legend below; the same bytes each time."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from approxtrain.report.document import Picture
from approxtrain_kernels.methods import all_methods

INK, GRID, PAPER, UNKNOWN = "#1f2933", "#dde2e7", "#ffffff", "#6b7280"
_DASHES = ((0, ()), (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
FEW = 20
"""Points of a line that are marked one by one; a longer line would be all markers."""

Rows = Sequence[Mapping[str, Any]]


class Panel(NamedTuple):
    """What is drawn of rows of epochs or of probes."""

    name: str
    heading: str
    key: str
    x: str = "epoch"
    percent: bool = False

    def series(self, rows: Rows) -> dict[float, float]:
        """x → the mean of the finite values there."""
        values: dict[float, list[float]] = {}
        for row in rows:
            if self.x in row and math.isfinite(row.get(self.key, math.nan)):
                values.setdefault(float(row[self.x]), []).append(row[self.key])
        return {x: (100.0 if self.percent else 1.0) * float(np.mean(each)) for x, each in values.items()}


class Line(NamedTuple):
    label: str
    method: str
    seeds: list[Rows]


def looks(rows: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """How rows of (method, schedule) are drawn in one panel: (colour, which of its method and schedule it is, from 0).

    Exact rows are ink, others have their method's colour; a dash or a hollow mark tells two of one method apart.
    """
    colours = {name: method.colour for name, method in all_methods().items()} | {"full": INK}
    return [(colours.get(row[0], UNKNOWN), rows[:number].count(row)) for number, row in enumerate(rows)]


def curves(stem: str, title: str, panels: Sequence[Panel], lines: Sequence[Line]) -> list[Picture]:
    """Of each line the mean over its seeds where all of them have values, and a band from the lowest to the highest.

    A picture for each panel that has something to show.
    """
    pictures = []
    for panel in panels:
        figure, axes = blank(panel.heading, panel.x, panel.percent)
        if panel.key == "norm_ratio":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        records: list[dict[str, Any]] = []
        for line, (colour, number) in zip(lines, looks([(line.method, "") for line in lines]), strict=True):
            series = [panel.series(rows) for rows in line.seeds]
            shared = sorted(set.intersection(*map(set, series))) if series else []
            if not shared:
                continue
            values = np.array([[seed[at] for at in shared] for seed in series])
            bands = values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist()
            marker, dash = "o" if len(shared) <= FEW else "", _DASHES[number % len(_DASHES)]
            axes.plot(shared, bands[0], label=line.label, color=colour, lw=1.8, ls=dash, marker=marker, ms=3.5)
            axes.fill_between(shared, *bands[1:], color=colour, alpha=0.16, linewidth=0)
            for at, mean, low, high in zip(shared, *bands, strict=True):
                point = {"line": line.label, panel.x: at, "mean": mean, "low": low, "high": high, "n": len(series)}
                records.append(point)
        if records:
            alt = f"{title}: {panel.heading} by {panel.x}"
            pictures.append(picture(f"{stem}-{panel.name}", alt, figure, records))
    return pictures


def blank(heading: str, x: str, percent: bool) -> tuple[Any, Any]:
    """An empty panel with its heading, grid and axes: → (figure, axes)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(dpi=180, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(heading, pad=10, fontsize=11, loc="left", color=INK, fontweight="bold")
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=x in ("epoch", "layer")))
    axes.yaxis.set_major_formatter("{x:g} %" if percent else "{x:g}")
    axes.tick_params(which="both", labelsize=9.5, colors=INK, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=INK)
    axes.set_axisbelow(True)
    return figure, axes


def picture(name: str, alt: str, figure: Any, records: Rows) -> Picture:
    """The figure with a legend of its labels, as SVG and PNG: no clock in them, and ids that are the same each time."""
    from matplotlib import rc_context

    handles, labels = figure.axes[0].get_legend_handles_labels()
    longest = sorted(map(len, labels))[-3:]
    beside = 3 if sum(longest) <= 40 else 2 if sum(longest[-2:]) <= 50 else 1
    figure.set_size_inches(4.9, 3 + 0.22 * -(-len(handles) // beside))  # so narrow that a phone shows it readably
    style = {"frameon": False, "fontsize": 9.5, "labelcolor": INK, "handlelength": 2.6}
    figure.legend(handles=handles, loc="outside lower center", ncols=beside, **style)
    with rc_context({"svg.hashsalt": "approxtrain"}):
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(name, alt, svg.getvalue(), png.getvalue(), records)
