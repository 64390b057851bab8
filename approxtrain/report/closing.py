"""The end of a report: what agrees with the paper, what does not, what was not run; and how much one run says."""

from __future__ import annotations

from collections.abc import Sequence

from approxtrain.paper import experiments
from approxtrain.report.document import Block, Bullets, Paragraph
from approxtrain.report.outcome import Outcome
from approxtrain.report.selection import Selection
from approxtrain.report.statistics import TEST_IMAGES, binomial_sd
from approxtrain.report.verdict import JUDGED, RULE, Word
from approxtrain.report.wording import interval, signed

_HEADINGS: dict[Word, str] = {
    "agrees": "Agrees",
    "differs": "Differs",
    "inconclusive": "Cannot be told yet",
    "not run": "Not run",
}
Judged = Sequence[tuple[Selection, Sequence[Outcome]]]


def blocks(judged: Judged) -> tuple[Block, ...]:
    """Lists by verdict, and what stands behind them."""
    found: list[Block] = [Paragraph(RULE)]
    for word in JUDGED:
        items = [
            _item(selection, outcome) for selection, all_ in judged for outcome in all_ if outcome.verdict.word == word
        ]
        if word == "not run":
            items += not_run([selection for selection, _ in judged])
        found += [Paragraph(f"**{_HEADINGS[word]}**"), Bullets(tuple(items or ["nothing"]))]
    return (*found, Paragraph("**How much one run says**"), Bullets(tuple(_noise(judged))))


def not_run(selections: Sequence[Selection]) -> list[str]:
    """The tables of which no run was given."""
    given = {selection.experiment.name for selection in selections}
    tables = [experiments.get(each) for each in experiments.names() if experiments.get(each).kind == "table"]
    return [f"{experiment.title}: no run was given" for experiment in tables if experiment.name not in given]


def counts(judged: Judged) -> dict[str, int]:
    """Verdict → rows that have it."""
    words = [outcome.verdict.word for _, outcomes in judged for outcome in outcomes]
    return {word: words.count(word) for word in JUDGED}


def _item(selection: Selection, outcome: Outcome) -> str:
    paper, ours = outcome.paper_difference, outcome.difference["best"]
    figures = f"the paper {signed(paper)} points to full" if paper is not None else ""
    if ours is not None:
        figures += f", ours {interval(ours, sign=True)}"
    reasons = [part for part in (outcome.verdict.why, *outcome.failures) if part]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    length = f", after {selection.protocol.epochs} of {selection.paper_epochs} epochs" if ours is not None else ""
    return f"{selection.experiment.short}, {outcome.name}: {figures}{length}{why}"


def _noise(judged: Judged) -> list[str]:
    best = [outcome.accuracy["best"] for _, all_ in judged for outcome in all_]
    final = [outcome.accuracy["final"] for _, all_ in judged for outcome in all_]
    gaps = [one.mean - other.mean for one, other in zip(best, final, strict=True) if one and other]
    bias = (
        f" Here it is {sum(gaps) / len(gaps):.2f} points above the final one, on average over the rows." if gaps else ""
    )
    return [
        f"One accuracy on {TEST_IMAGES:,} test images has a standard deviation of {binomial_sd(92):.2f} points at 92 "
        f"% and of {binomial_sd(70):.2f} at 70 %, from the choice of the images alone; a difference of two has up to "
        "1.4 times that. Half of the paper's differences are below 1 point, and it has one run a cell.",
        "The best of a curve is the largest of several noisy values, so it is biased upward, the more the more often "
        f"was validated.{bias}",
        "Runs with the same seed share initial weights, order of the images and augmentation, which is why their "
        "differences are taken pair by pair. With one pair nothing is known of how much pairs differ.",
    ]
