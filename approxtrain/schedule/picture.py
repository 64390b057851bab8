"""Draws a schedule as the paper draws its Figure 3. matplotlib is imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from approxtrain.errors import ConfigError, DiskError
from approxtrain.schedule.summary import Key, PhaseView, Summary, describe_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
MOST_COLUMNS = 32
"""Columns drawn of one phase: a longer period is drawn as runs of equal steps, cut if these are too many."""

MOST_PANELS = 16
"""Phases, or phases of replicas, that are drawn."""

# All in inches.
ROW, CELL, SMALLEST_PHASE, WIDEST_BODY, GAP = 0.26, 1.0, 1.6, 14.0, 0.25
MARGIN, SHAPE, SHARES, HEAD, PHASE_HEAD, FOOT = 0.2, 1.45, 1.4, 1.05, 0.3, 0.5
CHARACTER = 0.068


def draw(summary: Summary, path: Path, *, replicas: bool = False) -> None:
    """Write the image; the ending of `path` says its format. Raises ConfigError for other endings.

    `replicas`: a panel for each of those that differ.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--image: {path.name!r} must end in {', '.join(FORMATS)}; the ending says the format.")
    if not summary.model.layers:
        raise ConfigError(f"--image: there is nothing to draw: {summary.model.name} has {summary.model.unreached[0]}.")
    from matplotlib.figure import Figure

    layers = summary.model.layers
    groups = summary.replica_groups if replicas else []
    alone = groups if len(groups) > 1 else [("", summary)]
    views = [(name, phase) for name, each in alone for phase in each.phases][:MOST_PANELS]
    spans = [phase.spans(MOST_COLUMNS)[:MOST_COLUMNS] for _, phase in views]
    cell = min(CELL, WIDEST_BODY / sum(map(len, spans)))
    widths = [max(SMALLEST_PHASE, cell * len(part)) for part in spans]
    left = MARGIN + 0.25 + SHAPE + CHARACTER * max(len(layer.path) for layer in layers)
    width = max(left + sum(widths) + GAP * len(widths) + SHARES, 7)
    headings = (len(summary.phases) > 1) + (len(alone) > 1)
    height = HEAD + PHASE_HEAD * headings + ROW * len(layers) + FOOT
    figure = Figure(figsize=(width, height), dpi=160)

    def panel(at: float, wide: float) -> Axes:
        box = (at / width, FOOT / height, wide / width, ROW * len(layers) / height)
        return figure.add_axes(box, ylim=(len(layers), 0))

    _layer_names(panel(MARGIN, left - MARGIN), summary, left - MARGIN)
    for (name, phase), part, wide in zip(views, spans, widths, strict=True):
        _phase(panel(left, wide), summary, phase, part, wide / len(part), name)
        left += wide + GAP
    _layer_shares(panel(left, SHARES - 0.7), summary)
    _words(figure, summary, cell, apart=len(alone) > 1)
    try:
        figure.savefig(path)
    except OSError as error:
        raise DiskError(f"the image {str(path)!r} cannot be written: {error.strerror}.") from error


def _phase(
    axes: Axes, summary: Summary, phase: PhaseView, spans: list[tuple[int, int]], inches: float, name: str
) -> None:
    """The cells of one phase, a column of `inches` for each span, with the method's name where it fits."""
    from matplotlib.colors import ListedColormap

    drawn = phase.mask[:, [first for first, _ in spans]]
    colours = ListedColormap([key.colour for key in summary.keys])
    last = max(len(summary.keys) - 1, 1)
    axes.pcolormesh(drawn, cmap=colours, vmin=0, vmax=last, edgecolors="white", linewidth=2)
    centred: dict[str, Any] = {"ha": "center", "va": "center_baseline", "size": 8}
    for (row, column), cell in np.ndenumerate(drawn):
        key = summary.keys[cell]
        ink = "#777777" if cell == 0 else key.ink
        axes.text(column + 0.5, row + 0.5, _word(summary, key, inches), color=ink, **centred)
    origin = 0 if phase.repeats else phase.first
    names = [str(origin + a) if a == b else f"{origin + a}-{origin + b}" for a, b in spans]
    names = ["every step"] if phase.period == 1 else names
    axes.set_xticks([column + 0.5 for column in range(len(spans))], names)
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8, pad=2)
    axes.spines[:].set_visible(False)
    heading = [name, *_heading(summary, phase, spans)]
    axes.set_title("\n".join(filter(None, heading)), fontsize=8, color="#555555", pad=6)


def _word(summary: Summary, key: Key, inches: float) -> str:
    """The text in a cell: the label if the labels of all cells fit, otherwise the letter."""
    return key.label if all(len(k.label) * CHARACTER < inches for k in summary.keys) else key.letter


def _heading(summary: Summary, phase: PhaseView, spans: list[tuple[int, int]]) -> list[str]:
    """The title of a phase, by lines: its steps and epochs, and its period."""
    when = "" if len(summary.phases) == 1 else summary.when(phase).replace(" (", "\n(")
    if phase.period == 1:
        return [when]
    cut = spans[-1][1] + 1
    period = f"repeating every {phase.period} steps" if phase.repeats else f"{phase.period} steps"
    return [when, period + (f", the first {cut} drawn" if cut < phase.period else "")]


def _layer_names(axes: Axes, summary: Summary, inches: float) -> None:
    """Number, path and shape of each layer."""
    axes.set_axis_off()
    axes.set_xlim(0, inches)
    for layer in summary.model.layers:
        middle = layer.number - 0.5
        axes.text(0.17, middle, str(layer.number), ha="right", va="center_baseline", size=8)
        axes.text(0.25, middle, layer.path, va="center_baseline", size=8)
        shape = describe_shape(layer)
        axes.text(inches - 0.1, middle, shape, ha="right", va="center_baseline", size=7, color="#777777")


def _layer_shares(axes: Axes, summary: Summary) -> None:
    """A bar for each layer: its share of the convolutions' FLOPs."""
    shares = summary.layer_shares()
    middles = [row + 0.5 for row in range(len(shares))]
    axes.barh(middles, shares, height=0.55, color="#9a9a9a")
    for middle, share in zip(middles, shares, strict=True):
        axes.annotate(f"{share:.1%}", (share, middle), (3, 0), textcoords="offset points", va="center_baseline", size=7)
    axes.set(xlim=(0, max(shares)), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title("share of FLOPs", loc="left", fontsize=8, color="#555555", pad=4)


def _words(figure: Figure, summary: Summary, cell: float, *, apart: bool) -> None:
    """Title, the figures under it, and the legend, with letters where `cell` inches are too few for names; where
    replicas are drawn `apart`, without what they are together."""
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    run, steps = summary.run, len(summary.schedule.columns)
    facts = [
        f"largest possible speed-up {run.largest_speed_up:.1%}",
        f"{run.wgrad_share_saved:.1%} of wgrad FLOPs replaced",
        f"{steps} compiled step{'s' if steps > 1 else ''}",
    ]
    if len(summary.phases) > 1:
        facts.append(f"over {summary.epochs} epochs")
    title = f"{summary.model.name}: {summary.config.title}"
    figure.text(MARGIN / width, 1 - 0.3 / height, title, size=13, weight="bold")
    figure.text(MARGIN / width, 1 - 0.54 / height, "  ·  ".join(facts), size=9, color="#333333")
    keys = summary.keys[: len(summary.schedule.cells)] if apart else summary.keys
    words = [key.label if _word(summary, key, cell) == key.label else f"{key.letter} = {key.label}" for key in keys]
    patches = [Patch(facecolor=key.colour, label=word) for key, word in zip(keys, words, strict=True)]
    corner: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (MARGIN / width, 0.02 / height)}
    figure.legend(handles=patches, ncols=8, frameon=False, fontsize=9, borderaxespad=0, borderpad=0.3, **corner)
