"""Draws the roofline: how long each contender took against how long this machine needs at least for the same work.

On the diagonal nothing more can be gained; a point twice as high takes twice as long as it has to. matplotlib is
imported when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from approxtrain.bench.kernel_row import Row
from approxtrain.bench.plan import PRECISIONS
from approxtrain.errors import ConfigError, DiskError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
LOOKS = {  # marker and colour
    "method": ("o", "#d9541e"),
    "ours": ("s", "#1f5fa8"),
    "xla": ("^", "#6a9a3a"),
    "torch nchw": ("D", "#9a5fa8"),
    "torch nhwc": ("v", "#c79a1e"),
}


def check(path: Path) -> None:
    """Raises ConfigError for an ending that is no format."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--image: {path.name!r} must end in {', '.join(FORMATS)}; the ending says the format.")


def draw(rows: Sequence[Row], cache: str, device: str, path: Path) -> None:
    """Write the picture, a panel for each precision. Rows that failed are not in it."""
    from matplotlib.figure import Figure

    check(path)
    good = [row for row in rows if row.measured]
    names = [name for name in PRECISIONS if any(row.case.precision.name == name for row in good)]
    figure = Figure(figsize=(1.2 + 5.4 * max(len(names), 1), 5.4), dpi=150, layout="constrained")
    for name, axes in zip(names, figure.subplots(1, max(len(names), 1), squeeze=False)[0], strict=False):
        _panel(axes, [row for row in good if row.case.precision.name == name], name, cache)
    figure.suptitle(f"{_what(rows)} on {device}, {cache} cache", fontsize=12, fontweight="bold")
    try:
        figure.savefig(path)
    except OSError as error:
        raise DiskError(f"the image {str(path)!r} cannot be written: {error.strerror}.") from error


def points(row: Row, cache: str) -> dict[str, tuple[float, float]]:
    """Contender → (least, measured) milliseconds; those that have to move nothing are left out."""
    measured = row.measured[cache]
    names = [name for name in LOOKS if name in measured.times and measured.floor(name) > 0]
    return {name: (1e3 * measured.floor(name), 1e3 * measured.times[name].median) for name in names}


def _panel(axes: Axes, rows: Sequence[Row], precision: str, cache: str) -> None:
    found = [points(row, cache) for row in rows]
    for name, (marker, colour) in LOOKS.items():
        xy = [each[name] for each in found if name in each]
        if xy:
            label = rows[0].case.method.label if name == "method" else name
            axes.plot(*zip(*xy, strict=True), marker, color=colour, label=label, markersize=6, alpha=0.85)
    every = [value for each in found for point in each.values() for value in point]
    if every:
        ends = (min(every) / 1.5, max(every) * 1.5)
        axes.plot(ends, ends, color="#555555", linewidth=1, label="as fast as the machine can")
    small: dict[str, Any] = {"fontsize": 6, "color": "#555555", "textcoords": "offset points"}
    for row, each in zip(rows, found, strict=True):
        if row.case.subject in each:
            shape = row.case.shape
            axes.annotate(
                f"{shape.in_channels}→{shape.out_channels} {shape.height}²", each[row.case.subject], (5, -7), **small
            )
    axes.set(xscale="log", yscale="log", title=precision)
    axes.set_xlabel("least time: bytes / measured bandwidth or operations / measured rate, ms")
    axes.set_ylabel("measured time, ms")
    axes.grid(color="#e4e4e4", linewidth=0.8, which="both")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8)


def _what(rows: Sequence[Row]) -> str:
    case = rows[0].case
    return f"{case.part}, {case.method.label}" if case.subject == "method" else case.part
