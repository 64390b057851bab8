"""The whole report: what stands in it, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from approxtrain.paper import experiments
from approxtrain.report import (
    closing,
    curves,
    gradient_quality,
    header,
    kernel_table,
    other_runs,
    paper_tables,
    pareto,
    selection,
)
from approxtrain.report.document import Block, Bullets, Document, Figure, Paragraph, Section
from approxtrain.report.inputs import Inputs
from approxtrain.report.outcome import Outcome, outcomes
from approxtrain.report.selection import Selection
from approxtrain.report.speed_up import RUNS

TITLE = "Accelerated CNN Training Through Gradient Approximation, run again"
_PAPER = (
    "Held against Wang & Nelaturu, Accelerated CNN Training Through Gradient Approximation (2019). Accuracies are of "
    "validation, in percent; **best** is the paper's rule, the best of the run, **final** that after its last step; "
    "± and what stands in brackets are 95 % intervals. Speed-up is the paper's, 1 − T(method)/T(full), negative "
    "where the row is slower."
)
_GROWTH = (
    "The paper observes that dense times grow with C_i · H·W and its kernel's with C_i alone. Fitted are powers of "
    "both, with 95 % intervals over the shapes, the paper's kernel without its transposes; C_o equals C_i in all of "
    "them, so the power of C_i is that of both together."
)


@dataclass(frozen=True)
class Report:
    """The document, and what it was made of."""

    document: Document
    selections: tuple[Selection, ...]
    judged: tuple[tuple[Selection, tuple[Outcome, ...]], ...]
    """The tables among the selections, with their rows."""
    given: int
    """Runs that were given."""

    @property
    def placed(self) -> int:
        """Runs of them that stand in a row of the paper's tables and figures."""
        return len({id(archive) for one in self.selections for archive in one.archives})

    @property
    def verdicts(self) -> dict[str, int]:
        """Verdict → rows of the tables that have it."""
        return closing.counts(self.judged)


def compose(inputs: Inputs) -> Report:
    """All that can be said of what was given."""
    runs = selection.by_row(inputs.archives)
    every = [experiments.get(name) for name in experiments.names() if experiments.get(name).kind != "kernel"]
    selections = tuple(one for one in (selection.select(each, runs) for each in every) if one is not None)
    judged = tuple((one, tuple(outcomes(one, inputs.steps))) for one in selections if one.experiment.kind == "table")
    other = other_runs.table(inputs.archives, selections)
    sections = [
        _head(inputs, selections),
        *(_kernels(inputs)),
        *(_table(one, rows) for one, rows in judged),
        *_curves(selections),
        *_figures("pareto", "Accuracy against training time", _each_model(judged), pareto.figure),
        *_figures("gradients", "Quality of the approximated gradients", _each_model(judged), gradient_quality.figure),
        *([Section("other-runs", "Runs that stand in no table", (other,))] if other else []),
        Section("closing", "What agrees, what does not, what was not run", closing.blocks(judged)),
    ]
    return Report(Document(TITLE, tuple(sections)), selections, judged, len(inputs.archives))


def _head(inputs: Inputs, selections: Sequence[Selection]) -> Section:
    benches = (*inputs.steps, *inputs.kernels)
    blocks: list[Block] = [Paragraph(_PAPER), header.facts(selections, inputs.archives, benches)]
    if different := header.deviations(selections):
        blocks += [Paragraph("**What is not as in the paper**"), Bullets(different)]
    return Section("protocol", "What was run, and how", tuple(blocks))


def _kernels(inputs: Inputs) -> list[Section]:
    found = [one for one in inputs.kernels if kernel_table.is_table1(one)]
    sections = []
    for number, measured in enumerate(found, start=1):
        name = "table1" if number == 1 else f"table1-{number}"
        values = measured.values
        text = (
            f"From `{measured.name}`: {header.device_text(values['environment'])}, batch {kernel_table.BATCH}, "
            f"{values['rounds']} interleaved rounds, {kernel_table.CACHES[values['cache']]}, each result checked "
            "against float64 before it is timed. The paper prints its times as microseconds; only milliseconds are "
            "possible."
        )
        blocks: list[Block] = [Paragraph(text)]
        for dtype in kernel_table.dtypes(measured):
            blocks += [Paragraph(f"**{dtype}**"), kernel_table.table(measured, dtype, f"{name}-{dtype}")]
        if growth := kernel_table.growth(measured, f"{name}-growth"):
            blocks += [Paragraph(_GROWTH), growth]
        sections.append(Section(name, experiments.get("table1").title, tuple(blocks)))
    return sections


def _table(one: Selection, rows: Sequence[Outcome]) -> Section:
    notes = {row.label: row.note for row in one.experiment.rows if row.note}
    about = [
        f"{one.protocol.title}; the paper trained about {one.paper_epochs} epochs.",
        *(f"{label}: {note}." for label, note in notes.items()),
    ]
    blocks: list[Block] = [
        Paragraph(" ".join(about)),
        paper_tables.accuracy(one, rows),
        Paragraph(f"{_speed_source(rows)} **At most** counts the replaced weight gradients as free, in operations."),
        paper_tables.speed(one, rows),
    ]
    if smaller := paper_tables.against_smaller(one, rows):
        blocks += [
            Paragraph(
                "Against the smaller network: a method has to be more accurate than ResNet-14 for what it costs more."
            ),
            smaller,
        ]
    return Section(one.experiment.name, one.experiment.title, tuple(blocks))


def _speed_source(rows: Sequence[Outcome]) -> str:
    """What was timed for the speed-ups of a table."""
    match list(dict.fromkeys(outcome.speed_up.source for outcome in rows if outcome.speed_up)):
        case []:
            return "No step of a row could be held against an exact one."
        case [source] if source == RUNS:
            return "Speed-ups are of the runs' own steps, the median epoch's, paired by seed, one run after the other."
        case [source]:
            return f"Speed-ups are of interleaved steps measured by `bench-step`: {source}."
    return "Speed-ups are of the steps that the column names: interleaved where a file of `bench-step` has them."


def _curves(selections: Sequence[Selection]) -> list[Section]:
    return [
        Section(one.experiment.name, one.experiment.title, (figure,))
        for one in selections
        if one.experiment.kind == "figure" and (figure := curves.figure(one))
    ]


def _each_model(judged: Sequence[tuple[Selection, Sequence[Outcome]]]) -> list[Selection]:
    """For each network the table that has most of its rows."""
    best: dict[str, Selection] = {}
    for one, _ in judged:
        model = one.experiment.model
        if model not in best or len(one.archives) >= len(best[model].archives):
            best[model] = one
    return list(best.values())


def _figures(name: str, title: str, selections: Sequence[Selection], draw) -> list[Section]:
    figures: list[Figure] = [figure for one in selections if (figure := draw(one))]
    return [Section(name, title, tuple(figures))] if figures else []
