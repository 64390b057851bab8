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
LEAST, MOST, SLOWEST = -0.1, 1.5, -0.2
"""What is drawn at most of the worth, and of the time saved; what lies outside is drawn at the edge."""


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
            axes.plot(_saved(row), _inside(worth.value), alpha=0.3, markersize=4, **style)
        for row, worth in whole or of_arm:
            axes.plot(_saved(row), _inside(worth.value), linestyle="", label=arm, **style)
            if worth.interval:
                axes.plot(
                    [_saved(row)] * 2, [_inside(bound) for bound in worth.interval], color=style["color"], linewidth=1
                )
    saved = [0.0, *map(_saved, rows)]
    left, right = min(saved) - 0.05, min(max(saved) + 0.15, 1)
    axes.plot([left, right], [1 - left, 1 - right], color="0.6", linewidth=1)
    label = {"rotation": -45, "transform_rotates_text": True, "rotation_mode": "anchor"}
    axes.annotate("exact, on fewer images", (right, 1 - right), color="0.4", ha="right", va="bottom", **label)
    axes.set(
        xlabel="share of the time of an exact step that is saved", ylabel="worth: share of the images", title=title
    )
    drawn = [0.5, 1.1, *(_inside(each) for _, worth in known for each in (worth.value, *(worth.interval or ())))]
    axes.set_ylim(min(drawn) - 0.05, max(drawn) + 0.05)
    axes.set_xlim(left, right)
    axes.legend(frameon=False, fontsize="small", loc="lower left")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."))
    disk.write(path, picture.getvalue())


def _inside(worth: float) -> float:
    return min(max(worth, LEAST), MOST)


def _saved(row: Row) -> float:
    return max(1 - row.time, SLOWEST)
