"""The paper's tables and figures out of what was given. What it says, and in what order, is in paper.md.jinja."""

from __future__ import annotations

from dataclasses import replace

from approxtrain.paper import experiments
from approxtrain.report import figures, row_results, selection, table1
from approxtrain.report.document import Document, Report
from approxtrain.report.inputs import Inputs
from approxtrain.report.selection import PaperSelection, Protocol
from approxtrain.report.timing import RUNS


def compose(inputs: Inputs) -> Report:
    """All that can be said of what was given beside the paper."""
    runs = selection.by_row(inputs.archives)
    every = [experiments.get(name) for name in experiments.names() if name != "table1"]
    selections = [found for experiment in every if (found := selection.select(experiment, runs))]
    tables = [each for each in selections if each.experiment.kind == "table"]
    judged = [(each, row_results.results(each, inputs.steps)) for each in tables]
    rows = [(table, result) for table, results in judged for result in results]
    by_verdict = {word: [each for each in rows if each[1].verdict.word == word] for word in row_results.JUDGED}
    placed = list({id(archive): archive for each in selections for archive in each.archives}.values())
    shown = placed or inputs.archives
    fullest: dict[str, PaperSelection] = {}  # for each network the table that has most of its runs
    for table in tables:
        best = max(fullest.get(table.model, table), table, key=lambda each: len(each.archives))
        fullest[table.model] = replace(best, name=table.model, title=table.model)
    benches = [*inputs.steps, *inputs.kernels]
    context = {
        **{module.__name__.rpartition(".")[2]: module for module in (figures, row_results, table1)},
        "protocols": [Protocol.of(archive) for archive in shown],
        "environments": [one.environment for one in (*shown, *benches)],
        "benches": benches,
        "kernels": [bench for bench in inputs.kernels if table1.is_table1(bench)],
        "judged": judged,
        "selections": selections,
        "networks": list(fullest.values()),
        "left_out": len(inputs.archives) - len(placed),
        "by_verdict": by_verdict,
        "not_given": [each for each in every if each.kind == "table" and all(each != one.experiment for one in tables)],
        "RUNS": RUNS,
    }
    verdicts = {word: len(found) for word, found in by_verdict.items()}
    rows_said = ", ".join(f"{count} {word}" for word, count in verdicts.items())
    said = f"{len(placed)} of {len(inputs.archives)} runs in the paper's rows\nrows: {rows_said}"
    facts = {"protocol": {each.name: each.protocol.values for each in selections}, "verdicts": verdicts}
    return Report(Document("paper.md.jinja", context), said, placed, facts)
