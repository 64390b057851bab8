"""Accuracy against training time, a point a row, with the smaller network among them: who is on the front?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from approxtrain.report import curves, drawing
from approxtrain.report.document import Figure, Picture
from approxtrain.report.drawing import COLOURS, Look
from approxtrain.report.outcome import accuracies
from approxtrain.report.selection import Selection
from approxtrain.report.speed_up import place, training_seconds
from approxtrain.report.statistics import estimate
from approxtrain.report.wording import counted

_OFFSETS = (
    (7, 9),
    (-7, 9),
    (7, -9),
    (-7, -9),
    (10, 0),
    (-10, 0),
    (0, 14),
    (0, -14),
    (7, 20),
    (7, -20),
    (-7, 20),
    (-7, -20),
)
"""Points of typography from a point to its label, in the order they are tried."""


@dataclass(frozen=True)
class Point:
    method: str
    group: str
    """The schedule, where the table has several."""
    look: Look
    seconds: float
    accuracy: float
    half_width: float | None
    n: int

    @property
    def label(self) -> str:
        """ "zero, s1" """
        return self.method + (f", s{self.group.removeprefix('schedule ')}" if self.group else "")


def figure(selection: Selection) -> Figure | None:
    """The points of the rows that ran on the machine where most did; None where there are fewer than two."""
    points, elsewhere = _points(selection)
    if len(points) < 2:
        return None
    front = _front(points)
    name, model = f"pareto-{selection.experiment.model}", selection.experiment.model
    title = f"Accuracy against training time, {model}"
    records = [
        {
            "row": point.label,
            "seconds": point.seconds,
            "best_accuracy": point.accuracy,
            "half_width": point.half_width,
            "n": point.n,
            "on_front": point in front,
        }
        for point in points
    ]
    left = f" Not drawn, because timed on another machine: {', '.join(elsewhere)}." if elsewhere else ""
    text = (
        f"{title}: {selection.protocol.title}. Best validation accuracy, with its 95 % interval where there are "
        "several seeds, against the seconds of all training steps of one run (compiling and validation left out). "
        f"The line joins the rows that no other beats in both.{left}"
    )
    return Figure(text, (_draw(name, f"{title}: {counted(len(points), 'point')}", points, front, records),))


def _points(selection: Selection) -> tuple[list[Point], list[str]]:
    """The points of one machine, and the labels of rows that have runs on other ones only."""
    places = [place(archive) for runs in selection.rows for archive in runs.finished.values()]
    if not places:
        return [], []
    here = max(dict.fromkeys(places), key=places.count)
    points, elsewhere = [], []
    for runs in selection.rows:
        values = accuracies(runs, "best")
        timed = {
            seed: training_seconds(one, compiling=False) for seed, one in runs.finished.items() if place(one) == here
        }
        seconds = estimate([each for each in timed.values() if each is not None])
        accuracy = estimate([values[seed] for seed, each in timed.items() if each is not None])
        if seconds and accuracy:
            what = (curves.short(runs.row), runs.row.group, curves.look(runs.row))
            points.append(Point(*what, seconds.mean, accuracy.mean, accuracy.half_width, accuracy.n))
        elif runs.finished:
            elsewhere.append(" ".join([curves.short(runs.row), runs.row.group]).strip())
    return points, elsewhere


def _front(points: Sequence[Point]) -> list[Point]:
    """The points that none is at least as good as in both and better in one, from the fastest."""

    def beaten(point: Point) -> bool:
        return any(
            other.seconds <= point.seconds
            and other.accuracy >= point.accuracy
            and (other.seconds, other.accuracy) != (point.seconds, point.accuracy)
            for other in points
        )

    return sorted((point for point in points if not beaten(point)), key=lambda point: (point.seconds, point.accuracy))


def _draw(name: str, alt: str, points: Sequence[Point], front: Sequence[Point], records: list[dict]) -> Picture:
    figure, axes = drawing.blank("best validation accuracy", "training time, s", "{x:g} %")
    line = {"color": COLOURS["ink"], "linewidth": 1, "alpha": 0.5}
    axes.plot([point.seconds for point in front], [point.accuracy for point in front], **line)
    for point in points:
        if point.half_width is not None:
            ends = (point.accuracy - point.half_width, point.accuracy + point.half_width)
            axes.vlines(point.seconds, *ends, color=COLOURS[point.look.colour], linewidth=1, alpha=0.4)
        axes.plot(point.seconds, point.accuracy, **_mark(point.look))
    axes.margins(0.12, 0.1)
    _legend(figure, points)
    named = [point for point in points if point in front or point.look.colour in ("ink", "smaller")]
    drawing.label_points(figure, axes, [(p.label, p.look.colour, p.seconds, p.accuracy) for p in named], _OFFSETS)
    return drawing.picture(name, alt, figure, records)


def _mark(look: Look) -> dict[str, Any]:
    """How a point is drawn: hollow where a line would be dashed."""
    colour = COLOURS[look.colour]
    face = colour if look.dash == "solid" else COLOURS["paper"]
    return {"color": colour, "marker": look.marker, "markerfacecolor": face, "markersize": 6.5, "linestyle": "none"}


def _legend(figure: Any, points: Sequence[Point]) -> None:
    """Below the panel: a colour each method, and a shape each schedule where there are several."""
    from matplotlib.lines import Line2D

    methods = {point.method: replace(point.look, marker="o") for point in points if point.look.colour != "smaller"}
    shapes = {point.group: Look("ink", "dashed", point.look.marker) for point in points if point.group}
    handles = [Line2D([], [], label=label, **_mark(look)) for label, look in (methods | shapes).items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9.5,
        labelcolor=COLOURS["ink"],
        handletextpad=0.2,
        columnspacing=1.2,
    )
