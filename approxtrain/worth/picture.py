"""Time saved against worth in images: above the diagonal a schedule is better than training on fewer images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from approxtrain import disk
from approxtrain.worth.shares import Row


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """One point for each schedule and epoch, with its interval; the ending of `path` says the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    arms = list(dict.fromkeys(row.arm for row in rows))
    for number, arm in enumerate(arms):
        known = [row for row in rows if row.arm == arm and row.worth is not None and row.epoch is not None]
        saved = [1 - row.time for row in known]
        values = [row.worth.value for row in known if row.worth]
        axes.plot(saved, values, "o", color=f"C{number}", label=arm)
        for x, row in zip(saved, known, strict=True):
            if row.worth and row.worth.low is not None and row.worth.high is not None:
                axes.plot([x, x], [row.worth.low, min(row.worth.high, 2)], color=f"C{number}", linewidth=1, alpha=0.6)
    left = min([0.0, *(1 - row.time for row in rows)])
    axes.plot([left, 1], [1 - left, 0], color="0.6", linewidth=1)
    axes.annotate("exact, on fewer images", (0.55, 0.45), rotation=-35, color="0.4", ha="center", va="bottom")
    axes.set(
        xlabel="share of the time of an exact step that is saved", ylabel="worth: share of the images", title=title
    )
    axes.set_ylim(0, 1.5)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."))
    disk.write(path, picture.getvalue())
