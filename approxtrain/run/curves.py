"""curves.png of a run folder: loss and accuracy against epoch, under a title that names the data set."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError
from approxtrain.run.folder import CONFIG
from approxtrain.run.record import METRICS, rows
from approxtrain.run.summary import over_seeds, rank

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
    train, validation = (_by_seed([row for row in found if row["kind"] == kind]) for kind in ("train", "validation"))
    figure = Figure(figsize=(10, 4.2), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    config = tomllib.loads((folder / CONFIG).read_text("utf-8"))
    figure.suptitle(title(config), fontsize=13, fontweight="bold")
    losses, accuracies = figure.subplots(1, 2)
    _panel(losses, "training loss", "{x:g}")
    _draw(losses, train, "loss", "training", _TRAINING)
    _panel(accuracies, "accuracy", "{x:g} %")
    _draw(accuracies, train, "accuracy", "training", _TRAINING)
    _draw(accuracies, validation, "accuracy", _best(validation), _VALIDATION)
    accuracies.legend(frameon=False, fontsize=11, loc="best")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    disk.write(folder / CURVES, picture.getvalue())
    return folder / CURVES


def title(config: dict[str, Any]) -> str:
    """What a resolved configuration trains: model, schedule and its methods, data set, seeds."""
    first, count = config["train"]["seed"], config["train"].get("seeds", 1)
    parts = [
        config["model"]["name"],
        schedule_title(config["schedule"]),
        f"data: {config['data']['name']}",
        f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}",
    ]
    return " · ".join(parts)


def schedule_title(schedule: dict[str, Any]) -> str:
    """A [schedule] table in a few words: "schedule1 approx", "rules pooled", "full, 24 pixels"."""
    name = schedule.get("name") or ("grid" if "grid" in schedule else "rules")
    methods = [rule["method"] for rule in [schedule, *schedule.get("rules", [])] if "method" in rule]
    more = [f"{each['size']} pixels" for each in schedule.get("image_sizes", ())]
    more += [f"{each['share']:.3g} of each batch" for each in schedule.get("image_shares", ())]
    more += [f"without {each['path']}" for each in schedule.get("bypass", ())]
    more += [f"local {each['every']}" for each in schedule.get("local", ())]
    return ", ".join([" ".join([name, *dict.fromkeys(methods)]), *more])


def _by_seed(found: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
    """One series a seed, accuracies in percent; a single one where the rows bear no seed."""
    scales = {"epoch": 1, "loss": 1, "accuracy": 100}
    return [
        {name: [scale * float(row[name]) for row in found if row.get("seed") == seed] for name, scale in scales.items()}
        for seed in dict.fromkeys(row.get("seed") for row in found)
    ]


def _best(validation: list[dict[str, list[float]]]) -> str:
    """The legend of the validation curve: the best accuracy and its epoch, or the mean of the seeds' best."""
    every = [zip(own["accuracy"], own["loss"], own["epoch"], strict=True) for own in validation]
    bests = [max(own, key=lambda each: rank(each[0], each[1])) for own in every]
    if not bests:
        return "validation: none yet"
    if len(bests) == 1:
        return f"validation, best {bests[0][0]:.1f} % (epoch {bests[0][2]:g})"
    best = over_seeds("best", [accuracy for accuracy, *_ in bests])
    return f"validation, best {best['best']:.1f} ± {best['best_sd']:.1f} % ({len(bests)} seeds)"


def _draw(axes: Any, series: list[dict[str, list[float]]], name: str, label: str, colour: str) -> None:
    """A line a seed, thinner where there are several, with a dot at each measurement while there is room for them."""
    if not series:
        axes.plot([], [], label=label, color=colour)
    for number, own in enumerate(series):
        marker = "o" if len(own["epoch"]) == 1 or (len(series) == 1 and len(own["epoch"]) <= 40) else ""
        axes.plot(
            own["epoch"],
            own[name],
            label=label if number == 0 else None,
            color=colour,
            linewidth=2 if len(series) == 1 else 1,
            marker=marker,
            markersize=4.5,
        )


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
