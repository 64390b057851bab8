"""curves.png of a run folder: loss and accuracy against epoch, under a title that names the data set."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError
from approxtrain.record import METRICS, rows
from approxtrain.run_folder import CONFIG

CURVES = "curves.png"
_TRAINING, _VALIDATION = "#1f5fa8", "#d9541e"


def plot(folder: Path) -> Path:
    """Draw the rows of metrics.jsonl as curves.png in `folder`; returns its path.

    Raises ConfigError where there is nothing to draw, DiskError where the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = rows(folder / METRICS)
    if not found or not (folder / CONFIG).is_file():
        raise ConfigError(f"`{folder}` holds no {CONFIG} or no row in {METRICS} yet: there is nothing to draw.")
    train = _series([row for row in found if row["kind"] == "train"])
    validation = _series([row for row in found if row["kind"] == "validation"])
    figure = Figure(figsize=(10, 4.2), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    config = tomllib.loads((folder / CONFIG).read_text("utf-8"))
    figure.suptitle(title(config), fontsize=13, fontweight="bold")
    losses, accuracies = figure.subplots(1, 2)
    _panel(losses, "training loss", "{x:g}")
    _draw(losses, train["epoch"], train["loss"], "training", _TRAINING)
    _panel(accuracies, "accuracy", "{x:g} %")
    _draw(accuracies, train["epoch"], _percent(train["accuracy"]), "training", _TRAINING)
    _draw(accuracies, validation["epoch"], _percent(validation["accuracy"]), _best(validation), _VALIDATION)
    accuracies.legend(frameon=False, fontsize=11, loc="best")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    disk.write(folder / CURVES, picture.getvalue())
    return folder / CURVES


def title(config: dict[str, Any]) -> str:
    """What a resolved configuration trains: model, schedule and its methods, data set, seed."""
    schedule = config["schedule"]
    name = schedule.get("name") or ("grid" if "grid" in schedule else "rules")
    methods = [rule["method"] for rule in [schedule, *schedule.get("rules", [])] if "method" in rule]
    parts = [
        config["model"]["name"],
        " ".join([name, *dict.fromkeys(methods)]),
        f"data: {config['data']['name']}",
        f"seed {config['train']['seed']}",
    ]
    return " · ".join(parts)


def _series(found: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {name: [float(row[name]) for row in found] for name in ("epoch", "loss", "accuracy")}


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]


def _best(validation: dict[str, list[float]]) -> str:
    """The legend of the validation curve, with the best accuracy and its epoch."""
    if not validation["accuracy"]:
        return "validation: none yet"
    best, epoch = max(zip(validation["accuracy"], validation["epoch"], strict=True), key=lambda pair: pair[0])
    return f"validation, best {100 * best:.1f} % (epoch {epoch:g})"


def _draw(axes: Any, epochs: list[float], values: list[float], label: str, colour: str) -> None:
    """A line, with a dot at each measurement while there is room for them."""
    marker = "o" if len(epochs) <= 40 else ""
    axes.plot(epochs, values, label=label, color=colour, linewidth=2, marker=marker, markersize=4.5)


def _panel(axes: Any, heading: str, ticks: str) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_title(heading, fontsize=12, loc="left")
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter(ticks))
    axes.tick_params(labelsize=11)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
