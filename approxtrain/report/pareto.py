"""Accuracy against training time, a point a row, with the smaller network among them: who is on the front?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from approxtrain.report import curves, drawing
from approxtrain.report.document import Figure, Picture
from approxtrain.report.drawing import COLOURS, Look
from approxtrain.report.outcome import accuracies
from approxtrain.report.selection import RowRuns, Selection, counted
from approxtrain.report.speed import place, training_seconds
from approxtrain.report.statistics import estimate

_OFFSETS = (
    (8, 0),
    (-8, 0),
    (0, 9),
    (0, -9),
    (8, 10),
    (8, -10),
    (-8, 10),
    (-8, -10),
    (8, 20),
    (8, -20),
    (-8, 20),
    (-8, -20),
)
"""Points of typography from a point to its label, in the order they are tried."""


@dataclass(frozen=True)
class Point:
    label: str
    look: Look
    seconds: float
    accuracy: float
    half_width: float | None
    n: int


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
            points.append(
                Point(_label(runs), curves.look(runs.row), seconds.mean, accuracy.mean, accuracy.half_width, accuracy.n)
            )
        elif runs.finished:
            elsewhere.append(_label(runs))
    return points, elsewhere


def _label(runs: RowRuns) -> str:
    number = runs.row.group.removeprefix("schedule ")
    return curves.short(runs.row) + (f", s{number}" if number else "")


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
    axes.plot(
        [point.seconds for point in front],
        [point.accuracy for point in front],
        color=COLOURS["ink"],
        linewidth=1,
        alpha=0.5,
    )
    for point in points:
        axes.errorbar(
            point.seconds,
            point.accuracy,
            yerr=point.half_width,
            fmt=point.look.marker,
            color=COLOURS[point.look.colour],
            markerfacecolor=COLOURS[point.look.colour if point.look.dash == "solid" else "paper"],
            markersize=6.5,
            elinewidth=1,
            alpha=0.95,
        )
    axes.margins(0.16, 0.12)
    drawing.label_points(figure, axes, [(p.label, p.look.colour, p.seconds, p.accuracy) for p in points], _OFFSETS)
    return drawing.picture(name, alt, figure, records)
