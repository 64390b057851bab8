"""The fastest schedules for what they cost, predicted: as rows, and as a picture beside training on fewer images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from approxtrain import disk
from approxtrain.report.estimates import NORMAL
from approxtrain.worth.choice import Measured, Phase, Plan, cheapest, fastest
from approxtrain.worth.forecast import Drop, Trace

POINTS = 12
"""Plans on the front."""


class Prediction(NamedTuple):
    """What is expected of a plan."""

    plan: Plan
    drop: Drop

    @property
    def images(self) -> tuple[float, float, float]:
        """The share of images that it is worth, with its 95 % interval."""
        reach = NORMAL * self.plan.error
        return self.plan.images, self.plan.images - reach, self.plan.images + reach

    def as_json(self) -> dict[str, Any]:
        parts = [
            {"phase": part.phase, "option": part.measured.option.name, "at_every": part.thinned}
            for part in self.plan.parts
        ]
        return {"time": self.plan.time, "images": self.images, "points_lost": self.drop._asdict(), "parts": parts}


def predicted(plan: Plan, trace: Trace) -> Prediction:
    return Prediction(plan, trace.drop(plan.images, plan.error))


def front(measured: Sequence[Measured], phases: Sequence[Phase], trace: Trace) -> list[Prediction]:
    """From exact training to the fastest plan there is: for each time the plan that is worth the most images."""
    least = fastest(measured, phases, 0.0).time
    plans = [cheapest(measured, phases, time + 1e-9) for time in np.linspace(least, 1, POINTS)]
    distinct = {plan.parts: plan for plan in (*plans, Plan(tuple(phases), ())) if plan is not None}
    return [predicted(plan, trace) for plan in distinct.values()]


def verdict(found: Prediction, trace: Trace) -> str:
    """Held against exact training on as many images as fit into the same time."""
    fewer = trace.drop(found.plan.time, 0.0)
    _, low, high = found.images
    what = f"exact training on {found.plan.time:.0%} of the images, expected at {fewer.text}"
    if low > found.plan.time:
        return f"better than {what}"
    return f"worse than {what}" if high < found.plan.time else f"not told from {what}"


def draw(found: Sequence[Prediction], chosen: Prediction, trace: Trace, title: str, path: Path) -> None:
    """Time against points of accuracy; the ending of `path` says the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    times = [each.plan.time for each in found]
    points = [-each.drop.points for each in found]
    reach = [
        [each.drop.high - each.drop.points for each in found],
        [each.drop.points - each.drop.low for each in found],
    ]
    axes.errorbar(times, points, reach, fmt="o", color="C0", elinewidth=1, label="schedules")
    axes.plot([chosen.plan.time], [-chosen.drop.points], "o", color="C1", markersize=9, label="written")
    shares = np.linspace(min([*times, chosen.plan.time, 0.9]), 1, 50)
    fewer = [-trace.drop(share, 0.0).points for share in shares]
    axes.plot(shares, fewer, color="0.6", label="exact, on fewer images")
    axes.set(xlabel="time, as a share of the exact run's", ylabel="accuracy against the exact run, points", title=title)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."))
    disk.write(path, picture.getvalue())
