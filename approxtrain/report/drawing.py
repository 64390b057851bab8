"""Panels in one look, with a legend below; the same bytes each time."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from approxtrain.report.document import Picture
from approxtrain.report.estimates import counted
from approxtrain_kernels.methods import all_methods

INK, GRID, PAPER, UNKNOWN = "#1f2933", "#dde2e7", "#ffffff", "#6b7280"
_DASHES = ((0, ()), (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
Rows = Sequence[Mapping[str, Any]]
FEW = 20
"""Points of a line that are marked one by one; a longer line would be all markers."""


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
            if math.isfinite(row.get(self.key, math.nan)):
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
    before: Counter[tuple[str, str]] = Counter()
    looks = []
    for row in rows:
        looks.append((colours.get(row[0], UNKNOWN), before[row]))
        before[row] += 1
    return looks


def curves(stem: str, title: str, panel: Panel, lines: Sequence[Line], group: str = "") -> Picture | None:
    """Of each line the mean over its seeds where all of them have values, and a band from the lowest to the highest.

    None where there is nothing to draw. `group` is the schedule of the lines, if the figure has several.
    """
    heading = panel.heading + (f", {group}" if group else "")
    figure, axes = blank(heading, panel.x, panel.percent)
    records: list[dict[str, Any]] = []
    for line, (colour, number) in zip(lines, looks([(line.method, "") for line in lines]), strict=True):
        series = [panel.series(rows) for rows in line.seeds]
        shared = sorted(set.intersection(*map(set, series))) if series else []
        if not shared:
            continue
        values = np.array([[seed[at] for at in shared] for seed in series])
        bands = values.mean(0), values.min(0), values.max(0)
        marker, dash = "o" if len(shared) <= FEW else "", _DASHES[number % len(_DASHES)]
        axes.plot(shared, bands[0], label=line.label, color=colour, lw=1.8, ls=dash, marker=marker, ms=3.5)
        if len(values) > 1:
            axes.fill_between(shared, *bands[1:], color=colour, alpha=0.16, linewidth=0)
        for at, mean, low, high in zip(shared, *(band.tolist() for band in bands), strict=True):
            records.append({"line": line.label, panel.x: at, "mean": mean, "low": low, "high": high, "n": len(values)})
    if not records:
        return None
    _scale(axes, panel, records)
    handles, _ = axes.get_legend_handles_labels()
    alt = f"{title}: {heading} by {panel.x}, {counted(len(handles), 'line')}"
    return picture(f"{stem}-{panel.name}", alt, figure, handles, records)


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


def picture(name: str, alt: str, figure: Any, handles: Sequence[Any], records: Sequence[dict[str, Any]]) -> Picture:
    """The figure with its legend, as SVG and PNG: no clock in them, and ids that are the same each time."""
    from matplotlib import rc_context

    figure.set_size_inches(4.9, 3 + 0.22 * -(-len(handles) // 3))  # so narrow that a phone shows it readably
    style = {"frameon": False, "fontsize": 9.5, "labelcolor": INK, "handlelength": 2.6}
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **style)
    with rc_context({"svg.hashsalt": "approxtrain"}):
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(name, alt, svg.getvalue(), png.getvalue(), records)


def _scale(axes: Any, panel: Panel, records: Rows) -> None:
    """Norm ratios far apart on a log scale; the loss and accuracy of a long run as high as after its first quarter."""
    means, places = [row["mean"] for row in records], {row[panel.x] for row in records}
    axes.margins(x=0.02)
    if panel.key == "norm_ratio" and min(means) > 0 and max(means) > 5 * min(means):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    if panel.key in ("train_loss", "validation_accuracy") and len(places) > FEW:
        late = [row[bound] for row in records if row[panel.x] > max(places) / 4 for bound in ("low", "high")]
        room = 0.06 * (max(late) - min(late))
        axes.set_ylim(min(late) - room, max(late) + room)
