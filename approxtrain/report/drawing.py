"""Panels in one look: lines labelled at their ends, bands, points; the same bytes each time.

Colours stay apart for colour-blind readers (after Okabe & Ito, darkened for text on white). The page draws the SVG in
its own colours by their names, so each is used for one thing only.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from approxtrain.report.document import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "paper": "#fefefe",
    "ink": "#1f2933",
    "grid": "#dde2e7",
    "zero": "#0072b2",
    "random": "#c44e00",
    "approx": "#00805d",
    "pooled": "#a8508a",
    "smaller": "#8f6500",
}
"""Name → colour in the files; on the page `var(--NAME)` takes its place."""
DASHES = {"solid": (0, ()), "dashed": (0, (5, 2))}
SIZE = (4.9, 3.3)
"""Inches: so narrow that text of 10 points stays readable on a phone."""
FEW = 20
"""Points of a line that are marked one by one; a longer line would be all markers."""
LEAST_GAP = 0.068
"""Of the height of a panel, between two labels."""


@dataclass(frozen=True)
class Look:
    colour: str
    """A name out of COLOURS."""
    dash: str = "solid"
    marker: str = "o"


@dataclass(frozen=True)
class Line:
    """A mean with its band, over `n` seeds."""

    label: str
    look: Look
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int

    def records(self, x: str) -> list[dict[str, Any]]:
        rows = zip(self.x, self.mean, self.low, self.high, strict=True)
        return [
            {"line": self.label, x: at, "mean": mean, "low": low, "high": high, "n": self.n}
            for at, mean, low, high in rows
        ]


def lines(
    name: str,
    alt: str,
    found: Sequence[Line],
    *,
    x: str,
    heading: str,
    ticks: str = "{x:g}",
    zoom: bool = False,
    log: bool = False,
) -> Picture:
    """A panel of lines. `zoom` leaves the first quarter of a long run out of the height of the axis."""
    figure, axes = blank(heading, x, ticks)
    if log:
        formatter = axes.yaxis.get_major_formatter()
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(formatter)
        axes.yaxis.set_minor_formatter("")
        axes.tick_params(which="minor", length=0)
    for line in found:
        colour, dash = COLOURS[line.look.colour], DASHES[line.look.dash]
        dot = "o" if len(line.x) <= FEW else ""
        axes.plot(line.x, line.mean, color=colour, linestyle=dash, linewidth=1.8, marker=dot, markersize=3.5)
        if line.n > 1:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
    if zoom:
        _zoom(axes, found)
    axes.margins(x=0.02)
    if len({at for line in found for at in line.x}) == 1:  # a single epoch has no width of its own
        axes.set_xlim(found[0].x[0] - 1, found[0].x[0] + 1)
    _label_ends(axes, found)
    return picture(name, alt, figure, [record for line in found for record in line.records(x)])


def blank(heading: str, x: str, ticks: str = "{x:g}") -> tuple[Figure, Axes]:
    """An empty panel with its heading, grid and axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ink = COLOURS["ink"]
    figure = Figure(figsize=SIZE, dpi=180, facecolor=COLOURS["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor(COLOURS["paper"])
    axes.set_title(heading, pad=10, fontsize=11, loc="left", color=ink, fontweight="bold")
    axes.set_xlabel(x, fontsize=10, color=ink)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=x in ("epoch", "layer")))
    axes.yaxis.set_major_formatter(StrMethodFormatter(ticks))
    axes.tick_params(labelsize=9.5, colors=ink, length=0)
    axes.grid(color=COLOURS["grid"], linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=ink)
    axes.set_axisbelow(True)
    return figure, axes


def picture(name: str, alt: str, figure: Figure, records: Sequence[Mapping[str, Any]]) -> Picture:
    """The figure as SVG and PNG: no clock in them, and ids that are the same each time."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "approxtrain"}):
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(name, alt, svg.getvalue(), png.getvalue(), tuple(records))


def _zoom(axes: Axes, found: Sequence[Line]) -> None:
    shown = [
        bound
        for line in found
        if len(line.x) > FEW
        for bound in (*line.low[len(line.x) // 4 :], *line.high[len(line.x) // 4 :])
    ]
    if shown:
        room = 0.06 * (max(shown) - min(shown))
        axes.set_ylim(min(shown) - room, max(shown) + room)


def _label_ends(axes: Axes, found: Sequence[Line]) -> None:
    """Each line's label to the right of its end, moved apart where ends are close, and then led to it."""
    axes.set_ylim(axes.get_ylim())  # where the labels go depends on it: it stays
    to_pixels, inverse = axes.transData, axes.transAxes.inverted()
    heights = [inverse.transform(to_pixels.transform((line.x[-1], line.mean[-1])))[1] for line in found]
    ends = [min(max(float(height), 0.0), 1.0) for height in heights]
    for line, end, place in zip(found, ends, spread(ends), strict=True):
        colour = COLOURS[line.look.colour]
        axes.annotate(
            line.label,
            (1.0, end),
            (1.05, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=9.5,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def spread(ends: Sequence[float], gap: float = LEAST_GAP) -> list[float]:
    """Places between 0 and 1 as near to `ends` as can be, in their order, at least `gap` apart where there is room."""

    def between(middle: float, count: int) -> float:
        reach = gap * (count - 1) / 2
        return 0.5 if reach > 0.5 else min(max(middle, reach), 1 - reach)

    order = sorted(range(len(ends)), key=lambda at: ends[at])
    clusters: list[tuple[list[int], float]] = []  # members from below, and their middle
    for at in order:
        members, middle = [at], between(ends[at], 1)
        while clusters and middle - gap * len(members) / 2 < clusters[-1][1] + gap * len(clusters[-1][0]) / 2:
            below, _ = clusters.pop()
            members = below + members
            middle = between(sum(ends[member] for member in members) / len(members), len(members))
        clusters.append((members, middle))
    places = [0.0] * len(ends)
    for members, middle in clusters:
        for number, member in enumerate(members):
            places[member] = middle + gap * (number - (len(members) - 1) / 2)
    return places


def label_points(
    figure: Figure, axes: Axes, points: Sequence[tuple[str, str, float, float]], offsets: Sequence[tuple[int, int]]
) -> None:
    """A label beside each point (label, colour, x, y), where it covers no other label and no point.

    The first of `offsets`, in points of typography, that is free; where none is, the one that covers least.
    """
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the places are final
    renderer: Any = figure.canvas
    taken = [
        Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in axes.transData.transform([(x, y) for *_, x, y in points])
    ]
    for own, (label, colour, x, y) in enumerate(points):
        best: tuple[float, Any, Bbox] | None = None
        for dx, dy in offsets:
            side = "left" if dx > 0 else "right" if dx < 0 else "center"
            text = axes.annotate(
                label,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                color=COLOURS[colour],
                fontsize=9,
                ha=side,
                va="center",
            )
            box = text.get_window_extent(renderer.get_renderer())
            covered = sum(_overlap(box, other) for at, other in enumerate(taken) if at != own)
            covered += 10 * (box.width * box.height - _overlap(box, figure.bbox))  # nothing is cut off
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
            if covered == 0:
                break
        assert best is not None, "`offsets` must hold one at least"
        taken.append(best[2])


def _overlap(one: Any, other: Any) -> float:
    """The area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)
