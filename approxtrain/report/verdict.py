"""Whether a row of ours agrees with what the paper says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from approxtrain.report.statistics import NORMAL, TEST_IMAGES, Estimate, binomial_sd

Word = Literal["agrees", "differs", "inconclusive", "not run", "reference", "not in the paper"]
JUDGED: tuple[Word, ...] = ("agrees", "differs", "inconclusive", "not run")
MARGIN = 1.0
"""Points: two differences that could be further apart than this and still look alike are not called equal."""

RULE = (
    "Compared is the difference to `full` in best validation accuracy, because after fewer epochs than the paper's a "
    "plain accuracy cannot agree: a row **differs** where our difference (paired by seed) and the paper's are "
    "further apart than their 95 % errors together (ours by Student's t over the seeds; the paper's, two single "
    f"accuracies, by the binomial law on {TEST_IMAGES:,} images), or where every one of several seeds diverged; it "
    f"**agrees** where they are not, and these errors together are at most {MARGIN:g} point; otherwise, and always "
    "with one seed, where some seeds diverged, or on images that are not CIFAR-10's or a few of them, it is "
    "**inconclusive**."
)


@dataclass(frozen=True)
class Verdict:
    word: Word
    why: str = ""


def judge(ours: Estimate, paper: float, full_accuracy: float) -> Verdict:
    """The verdict on a paired difference, in points, against the paper's.

    `full_accuracy`, in percent, is the paper's of `full` (ours where it states none): the noise of both of its
    accuracies is taken from it.
    """
    if ours.half_width is None:
        return Verdict("inconclusive", "one seed")
    apart = abs(ours.mean - paper)
    theirs = NORMAL * math.sqrt(2) * binomial_sd(full_accuracy)
    error = math.hypot(ours.half_width, theirs)
    figures = f"{apart:.2f} points apart, error {error:.2f}, the paper's alone {theirs:.2f}"
    if apart > error:
        return Verdict("differs", figures)
    return Verdict("agrees" if error <= MARGIN else "inconclusive", figures)
