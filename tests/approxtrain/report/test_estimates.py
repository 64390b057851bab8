"""Intervals against hand and SciPy, pairs by seed, and each verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from approxtrain.report.estimates import Estimate, binomial_sd, estimate, paired
from approxtrain.report.paper_report import MARGIN, judge


def around(mean: float, half_width: float, n: int) -> Estimate:
    return Estimate(mean, mean - half_width, mean + half_width, n)


def test_the_interval_of_three_values_is_that_of_a_table_of_student_s_t():
    found = estimate([90.0, 91.0, 92.0])
    assert found is not None
    assert found.mean == 91
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(2; 0.975), sd 1
    assert (found.low, found.high, found.n) == (91 - found.half_width, 91 + found.half_width, 3)


def test_the_interval_is_scipy_s():
    from scipy import stats

    values = np.random.default_rng(0).normal(91, 0.3, 7).tolist()
    found = estimate(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 6, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_one_value_has_no_interval_and_none_is_nothing():
    assert estimate([91.0]) == Estimate(91.0, None, None, 1)
    assert estimate([91.0]).low is None  # type: ignore[union-attr]
    assert estimate([]) is None


def test_differences_are_of_the_seeds_that_both_have():
    found = paired({0: 90.0, 1: 92.0, 5: 10.0}, {1: 91.0, 0: 89.5, 7: 99.0})
    assert found is not None
    assert (found.mean, found.n) == (0.75, 2)
    assert found.half_width == pytest.approx(12.7062 * math.sqrt(0.125) / math.sqrt(2), rel=1e-5)
    assert paired({0: 90.0}, {1: 91.0}) is None


def test_pairing_takes_out_what_the_seeds_have_in_common():
    base = {seed: 90 + 3.0 * seed for seed in range(4)}
    own = {seed: value - 1 for seed, value in base.items()}
    found, apart = paired(own, base), estimate(list(base.values()))
    assert found is not None
    assert apart is not None
    assert found.half_width == 0
    assert apart.half_width is not None
    assert apart.half_width > 5


def test_one_accuracy_is_as_noisy_as_the_binomial_law_says():
    assert binomial_sd(92) == pytest.approx(0.2713, abs=1e-4)
    assert binomial_sd(50, images=100) == 5
    assert binomial_sd(100) == 0


ERROR = 1.959964 * math.sqrt(2) * binomial_sd(91.8)
"""Of the paper's difference, in points: 0.76."""


@pytest.mark.parametrize(
    ("ours", "paper", "word"),
    [
        (around(-1.4, 0.2, 5), -1.5, "agrees"),
        (around(-1.4, 0.2, 5), 0.5, "differs"),
        (around(-1.4, 0.0, 2), -1.4 + 1.01 * ERROR, "differs"),
        (around(-1.4, 0.0, 2), -1.4 + 0.99 * ERROR, "agrees"),
        (around(-1.4, 0.9, 3), -1.5, "inconclusive"),  # could be anything within more than a point
        (around(-9.0, 0.9, 3), -1.5, "differs"),  # but not this
        (Estimate(-9.0, None, None, 1), -1.5, "inconclusive"),  # one pair
    ],
)
def test_a_verdict_weighs_both_errors(ours, paper, word):
    assert judge(ours, paper, 91.8).word == word


def test_a_verdict_says_how_far_apart_and_how_sure():
    found = judge(around(-1.4, 0.3, 5), -1.0, 91.8)
    assert found.why == f"0.40 points apart, error {math.hypot(0.3, ERROR):.2f}, the paper's alone 0.76"
    assert math.hypot(0.3, ERROR) < MARGIN
    assert judge(Estimate(-1.4, None, None, 1), -1.0, 91.8).why == "one seed"
