"""The whole report out of what was given. What it says, and in what order, is in report.md.jinja."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from approxtrain.paper import experiments
from approxtrain.report import curve_figures, pareto, row_results, selection, speed_up, table1
from approxtrain.report.document import Document
from approxtrain.report.inputs import Inputs
from approxtrain.report.selection import Protocol, Selection
from approxtrain.run.archive import Archive


class Report(NamedTuple):
    """The document, and what it was made of."""

    document: Document
    selections: Sequence[Selection]
    placed: Sequence[Archive]
    """The runs that stand in a row of the paper's tables and figures."""
    given: int
    """Runs that were given."""
    verdicts: dict[str, int]
    """Verdict → rows of the tables that have it."""


def compose(inputs: Inputs) -> Report:
    """All that can be said of what was given."""
    runs = selection.by_row(inputs.archives)
    every = [experiments.get(name) for name in experiments.names() if name != "table1"]
    selections = [found for experiment in every if (found := selection.select(experiment, runs))]
    tables = [each for each in selections if each.experiment.kind == "table"]
    judged = [(each, row_results.results(each, inputs.steps)) for each in tables]
    rows = [(table, result) for table, results in judged for result in results]
    by_verdict = {word: [each for each in rows if each[1].verdict.word == word] for word in row_results.JUDGED}
    inside = {id(archive): archive for each in selections for archive in each.archives}
    shown = list(inside.values()) or inputs.archives
    others = [archive for archive in inputs.archives if id(archive) not in inside]
    fullest: dict[str, Selection] = {}  # for each network the table that has most of its runs
    for table in tables:
        best = fullest.setdefault(table.experiment.model, table)
        fullest[table.experiment.model] = max(best, table, key=lambda each: len(each.archives))
    benches = [*inputs.steps, *inputs.kernels]
    context = {
        **{module.__name__.rpartition(".")[2]: module for module in (curve_figures, pareto, row_results, table1)},
        "protocols": [Protocol.of(archive) for archive in shown],
        "environments": [archive.environment for archive in shown] + [bench.environment for bench in benches],
        "benches": benches,
        "kernels": [bench for bench in inputs.kernels if table1.is_table1(bench)],
        "judged": judged,
        "selections": selections,
        "networks": list(fullest.values()),
        "other_runs": [row_results.other_run(archive, selections) for archive in others],
        "of_no_row": [archive for archive in others if not experiments.row_of(archive.config)],
        "by_verdict": by_verdict,
        "not_given": [each for each in every if each.kind == "table" and all(each != one.experiment for one in tables)],
        "distinct": lambda items, say: "; ".join(
            dict.fromkeys(filter(None, (say(item).strip("; \n") for item in items)))
        ),
        "RUNS": speed_up.RUNS,
    }
    verdicts = {word: len(found) for word, found in by_verdict.items()}
    return Report(Document(context), selections, list(inside.values()), len(inputs.archives), verdicts)
