"""The whole report out of what was given. What it says, and in what order, is in report.md.jinja."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from approxtrain.paper import experiments
from approxtrain.report import curve_figures, other_runs, pareto, row_results, selection, speed_up, table1
from approxtrain.report.document import Document
from approxtrain.report.inputs import Inputs
from approxtrain.report.row_results import JUDGED, RowResult
from approxtrain.report.selection import Protocol, Selection

Judged = Sequence[tuple[Selection, Sequence[RowResult]]]


@dataclass(frozen=True)
class Report:
    """The document, and what it was made of."""

    document: Document
    selections: Sequence[Selection]
    judged: Judged
    """The tables among the selections, with their rows."""
    given: int
    """Runs that were given."""

    @property
    def placed(self) -> int:
        """Runs of them that stand in a row of the paper's tables and figures."""
        return len({id(archive) for each in self.selections for archive in each.archives})

    @property
    def verdicts(self) -> dict[str, int]:
        """Verdict → rows of the tables that have it."""
        return {word: len(rows) for word, rows in _by_verdict(self.judged).items()}


def compose(inputs: Inputs) -> Report:
    """All that can be said of what was given."""
    runs = selection.by_row(inputs.archives)
    every = [experiments.get(name) for name in experiments.names() if name != "table1"]
    selections = [found for experiment in every if (found := selection.select(experiment, runs))]
    tables = [each for each in selections if each.experiment.kind == "table"]
    judged = [(each, row_results.results(each, inputs.steps)) for each in tables]
    placed = [archive for each in selections for archive in each.archives] or inputs.archives
    benches = [*inputs.steps, *inputs.kernels]
    context = {
        **{module.__name__.rpartition(".")[2]: module for module in (curve_figures, pareto, row_results, table1)},
        "protocols": [Protocol.of(archive) for archive in placed],
        "environments": [archive.environment for archive in placed] + [bench.environment for bench in benches],
        "benches": benches,
        "kernels": [bench for bench in inputs.kernels if table1.is_table1(bench)],
        "judged": judged,
        "figures": [each for each in selections if each.experiment.kind == "figure"],
        "networks": _networks(tables),
        "other_runs": other_runs.left_over(inputs.archives, selections),
        "by_verdict": _by_verdict(judged),
        "not_given": [
            each for each in every if each.kind == "table" and each not in [one.experiment for one in tables]
        ],
        "bias": _bias(judged),
        "distinct": lambda items, say: "; ".join(
            dict.fromkeys(filter(None, (say(item).strip("; \n") for item in items)))
        ),
        "RUNS": speed_up.RUNS,
    }
    return Report(Document(context), selections, judged, len(inputs.archives))


def _networks(tables: Sequence[Selection]) -> list[Selection]:
    """For each network the table that has most of its runs."""
    best: dict[str, Selection] = {}
    for table in tables:
        model = table.experiment.model
        best[model] = max(table, best.get(model, table), key=lambda each: len(each.archives))
    return list(best.values())


def _by_verdict(judged: Judged) -> dict[str, list[tuple[Selection, RowResult]]]:
    every = [(table, result) for table, rows in judged for result in rows]
    return {word: [each for each in every if each[1].verdict.word == word] for word in JUDGED}


def _bias(judged: Judged) -> float | None:
    """Points that the best accuracy lies above the final one, on average over the rows."""
    both = [result.accuracy.values() for _, rows in judged for result in rows]
    gaps = [best.mean - final.mean for best, final in both if best and final]
    return sum(gaps) / len(gaps) if gaps else None
