"""Loss and accuracy by epoch, as Figures 5 to 8 of the paper; the same of runs that are no row of it; and how near the
approximated weight gradients are to the exact ones, from rows of probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from approxtrain.paper.experiments import method_of
from approxtrain.report import drawing
from approxtrain.report.document import Picture
from approxtrain.report.drawing import Line, Panel
from approxtrain.report.selection import Protocol, RowRuns, Selection
from approxtrain.run.archive import Archive
from approxtrain.run.curves import schedule_title
from approxtrain_kernels.methods import all_methods

TRAINING = (
    Panel("loss", "training loss", "train_loss"),
    Panel("accuracy", "validation accuracy", "validation_accuracy", percent=True),
)
GRADIENTS = (
    Panel("cosine-layer", "cosine", "cosine", "layer"),
    Panel("cosine-epoch", "cosine over the run", "cosine"),
    Panel("norm-ratio-layer", "norm ratio", "norm_ratio", "layer"),
    Panel("sign-disagreement-layer", "sign disagreement", "sign_disagreement", "layer", percent=True),
    Panel("dead-planes-layer", "dead planes", "dead_planes", "layer", percent=True),
)


def training(selection: Selection) -> list[Picture]:
    """Two panels for each schedule of which something was run.

    Where no run of a row finished, what was stopped is drawn as far as it came.
    """

    def line(runs: RowRuns) -> Line:
        stopped = "" if runs.finished or not runs.failed else " (stopped)"
        archives = (runs.finished or runs.failed).values()
        return Line(runs.row.short + stopped, runs.row.method, [archive.epochs for archive in archives])

    return _by_schedule(selection, selection.experiment.name, selection.experiment.title, TRAINING, line)


def gradients(selection: Selection) -> list[Picture]:
    """Five panels for each schedule, of the rows that were probed."""
    zero = {name for name, method in all_methods().items() if not method.needs}

    def line(runs: RowRuns) -> Line:
        probes = [[row for row in run.probes if row["method"] not in zero] for run in runs.finished.values()]
        return Line(runs.row.short, runs.row.method, [rows for rows in probes if rows])

    model = selection.experiment.model
    return _by_schedule(selection, f"gradient-{model}", model, GRADIENTS, line)


def of_archives(archives: Iterable[Archive]) -> list[Picture]:
    """Two panels for each network, a line for each schedule and protocol."""
    networks: dict[str, dict[str, Line]] = {}
    for archive in archives:
        label = f"{schedule_title(archive.config['schedule'])}, {Protocol.of(archive).title}"
        lines = networks.setdefault(archive.config["model"]["name"], {})
        lines.setdefault(label, Line(label, method_of(archive.config), [])).seeds.append(archive.epochs)
    pictures = []
    for model, lines in networks.items():
        pictures += drawing.curves(f"other-{model}", model, TRAINING, list(lines.values()))
    return pictures


def _by_schedule(
    selection: Selection, stem: str, title: str, panels: Sequence[Panel], line: Callable[[RowRuns], Line]
) -> list[Picture]:
    """The panels of each schedule that has a line of its own."""
    pictures = []
    for group in selection.experiment.groups or ("",):
        rows = [(runs.row, line(runs)) for runs in selection.rows if runs.row.group in ("", group)]
        if any(drawn.seeds for row, drawn in rows if row.group == group):
            of = f", {group}" if group else ""
            named = [panel._replace(heading=panel.heading + of) for panel in panels]
            name = f"{stem}-{group.replace(' ', '')}" if group else stem
            pictures += drawing.curves(name, title, named, [drawn for _, drawn in rows])
    return pictures
