"""Tables 2 to 5 of the paper with ours beside it, accuracy and speed apart; ResNet-20 against the smaller network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from approxtrain.report.document import Cell, Table
from approxtrain.report.outcome import Outcome, accuracies
from approxtrain.report.selection import Selection
from approxtrain.report.speed_up import SpeedUp, place, step_seconds
from approxtrain.report.statistics import Estimate, estimate, paired
from approxtrain.report.wording import NOTHING, decimal, interval, signed

SMALLER = "resnet14"
_KINDS = {"agrees": "agrees", "differs": "differs", "inconclusive": "inconclusive", "not run": "missing"}

Columns = list[tuple[str, Callable[[Outcome], Cell]]]


def accuracy(selection: Selection, outcomes: Sequence[Outcome]) -> Table:
    """What each row of an experiment came to in accuracy, beside the paper, with the verdict."""
    stated = any(outcome.paper_accuracy is not None for outcome in outcomes)
    columns: Columns = [
        ("row", lambda o: Cell(o.name)),
        *([("paper, %", lambda o: Cell(decimal(o.paper_accuracy, 1)))] if stated else []),
        ("best, %", lambda o: _accuracy(o, "best")),
        ("final, %", lambda o: _accuracy(o, "final")),
        ("n", lambda o: Cell(str(len(o.runs.finished)))),
        ("to full, paper", lambda o: Cell(signed(None if _is_full(o) else o.paper_difference))),
        ("to full, ours", _difference),
        ("verdict", lambda o: Cell(o.verdict.word, _KINDS.get(o.verdict.word, ""), o.verdict.why)),
    ]
    return _table(selection.experiment.name, columns, outcomes, lambda o: _accuracy_record(selection, o))


def speed(selection: Selection, outcomes: Sequence[Outcome]) -> Table:
    """What each row of an experiment saves of a step, beside the paper, and how long a run took."""
    sources = {outcome.speed_up.source for outcome in outcomes if outcome.speed_up}
    columns: Columns = [
        ("row", lambda o: Cell(o.name)),
        ("paper, %", lambda o: Cell(_paper_speed(o))),
        ("ours, %", lambda o: Cell(NOTHING if _is_full(o) else speed_text(o.speed_up))),
        ("n", lambda o: Cell(str(o.speed_up.n) if o.speed_up else NOTHING)),
        ("at most, %", lambda o: Cell(NOTHING if _is_full(o) else f"{o.bound:.1f}")),
        *([("measured by", lambda o: Cell(o.speed_up.source if o.speed_up else NOTHING))] if len(sources) > 1 else []),
        ("training and compiling, s", lambda o: Cell(interval(o.seconds, digits=0))),
    ]
    return _table(f"{selection.experiment.name}-speed", columns, outcomes, _speed_record)


def _table(
    file: str, columns: Columns, outcomes: Sequence[Outcome], record: Callable[[Outcome], dict[str, Any]]
) -> Table:
    return Table(
        name=file,
        header=tuple(heading for heading, _ in columns),
        rows=tuple(tuple(cell(outcome) for _, cell in columns) for outcome in outcomes),
        records=tuple(record(outcome) for outcome in outcomes),
    )


def against_smaller(selection: Selection, outcomes: Sequence[Outcome]) -> Table | None:
    """Accuracy and step of each row against ResNet-14's of the same seeds; None where that or all else was not run."""
    small = next((outcome for outcome in outcomes if outcome.row.model == SMALLER), None)
    if small is None or not small.runs.finished or selection.experiment.model == SMALLER:
        return None
    base = accuracies(small.runs, "best")
    rows, records = [], []
    for outcome in outcomes:
        gain = paired(accuracies(outcome.runs, "best"), base)
        if outcome is small or gain is None:
            continue
        longer = _step_ratio(outcome, small)
        rows.append((Cell(outcome.name), Cell(interval(gain, sign=True)), Cell(interval(longer))))
        records.append({"row": outcome.row.name, **_flat("accuracy_difference", gain), **_flat("step_ratio", longer)})
    header = ("row", "best accuracy above ResNet-14's, points", "step over ResNet-14's")
    return Table(f"{selection.experiment.name}-resnet14", header, tuple(rows), tuple(records)) if rows else None


def speed_text(found: SpeedUp | None) -> str:
    if found is None:
        return NOTHING
    between = "" if found.low is None else f" ({signed(found.low, 1)} to {signed(found.high, 1)})"
    return f"{signed(found.value, 1)}{between}"


def _accuracy(outcome: Outcome, kind: str) -> Cell:
    found = outcome.accuracy[kind]
    failures = "; ".join(outcome.failures)
    if found is None:
        return Cell(failures or "not run", "missing")
    return Cell(interval(found), "partial" if failures else "", failures)


def _difference(outcome: Outcome) -> Cell:
    """The note says of how many pairs it is, where some runs have no exact one beside them."""
    found = outcome.difference["best"]
    alone = len(outcome.runs.finished) - (found.n if found else 0)
    note = f"of {found.n} pairs" if found and alone and found.n > 1 else ""
    return Cell(interval(found, sign=True), "", note)


def _is_full(outcome: Outcome) -> bool:
    return outcome.verdict.word == "reference"


def _paper_speed(outcome: Outcome) -> str:
    paper = outcome.row.paper
    if paper is None:
        return NOTHING
    return paper.speed_up_printed or signed(paper.speed_up, 1)


def _step_ratio(outcome: Outcome, small: Outcome) -> Estimate | None:
    ratios = []
    for seed in sorted(outcome.runs.finished.keys() & small.runs.finished.keys()):
        own, base = outcome.runs.finished[seed], small.runs.finished[seed]
        mine, theirs = step_seconds(own), step_seconds(base)
        if mine and theirs and place(own) == place(base):
            ratios.append(mine / theirs)
    return estimate(ratios)


def _accuracy_record(selection: Selection, outcome: Outcome) -> dict[str, Any]:
    return {
        "row": outcome.row.name,
        "label": outcome.name,
        "data": selection.protocol.data,
        "epochs": selection.protocol.epochs,
        "seeds": " ".join(map(str, sorted(outcome.runs.finished))),
        "failed": "; ".join(outcome.failures),
        "paper_accuracy": outcome.paper_accuracy,
        **_flat("best_accuracy", outcome.accuracy["best"]),
        **_flat("final_accuracy", outcome.accuracy["final"]),
        "paper_difference": outcome.paper_difference,
        **_flat("difference", outcome.difference["best"]),
        **_flat("final_difference", outcome.difference["final"]),
        "verdict": outcome.verdict.word,
        "why": outcome.verdict.why,
    }


def _speed_record(outcome: Outcome) -> dict[str, Any]:
    paper, found = outcome.row.paper, outcome.speed_up
    return {
        "row": outcome.row.name,
        "label": outcome.name,
        "paper_speed_up": paper.speed_up if paper else None,
        "speed_up": found.value if found else None,
        "speed_up_low": found.low if found else None,
        "speed_up_high": found.high if found else None,
        "speed_up_n": found.n if found else 0,
        "speed_up_source": found.source if found else None,
        "largest_speed_up": outcome.bound,
        **_flat("training_seconds", outcome.seconds),
    }


def _flat(key: str, found: Estimate | None) -> dict[str, float | int | None]:
    return {
        key: found.mean if found else None,
        f"{key}_low": found.low if found else None,
        f"{key}_high": found.high if found else None,
        f"{key}_n": found.n if found else 0,
    }
