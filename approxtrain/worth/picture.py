"""Time saved against worth in images: above the diagonal a schedule is better than training on fewer images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.worth.shares import Row

MARKERS = "os^"
"""One for each ten schedules, which have as many colours."""
LEAST, MOST, SLOWEST = -0.5, 1.5, -0.5
"""What is drawn of the worth, and of the time saved; a worth that lies outside is drawn at the edge."""


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """A point with its interval for each schedule, over all epochs, and a pale one for each epoch; the ending of `path`
    says the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    known = [(row, worth) for row in rows if (worth := row.worth) is not None]
    for number, arm in enumerate(dict.fromkeys(row.arm for row in rows)):
        style: dict[str, Any] = {"color": f"C{number % 10}", "marker": MARKERS[number // 10 % len(MARKERS)]}
        of_arm = [each for each in known if each[0].arm == arm]
        whole = [each for each in of_arm if each[0].epoch is None]
        for row, worth in of_arm if whole else []:
            axes.plot(1 - row.time, _inside(worth.value), alpha=0.3, markersize=4, **style)
        for row, worth in whole or of_arm:
            axes.plot(1 - row.time, _inside(worth.value), linestyle="", label=arm, **style)
            if worth.interval:
                axes.plot(
                    [1 - row.time] * 2, [_inside(bound) for bound in worth.interval], color=style["color"], linewidth=1
                )
    left = max(min([0.0, *(1 - row.time for row in rows)]), SLOWEST)
    axes.plot([left, 1], [1 - left, 0], color="0.6", linewidth=1)
    axes.annotate("exact, on fewer images", (0.55, 0.45), rotation=-35, color="0.4", ha="center", va="bottom")
    axes.set(
        xlabel="share of the time of an exact step that is saved", ylabel="worth: share of the images", title=title
    )
    axes.set_ylim(LEAST, MOST)
    axes.set_xlim(left - 0.05, 1)
    axes.legend(frameon=False, fontsize="small", loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."))
    disk.write(path, picture.getvalue())


def _inside(worth: float) -> float:
    return min(max(worth, LEAST), MOST)
