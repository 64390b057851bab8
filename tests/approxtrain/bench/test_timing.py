"""Measurements: interleaved, checked before they are timed, and with a verdict that noise cannot buy."""

from __future__ import annotations

import numpy as np
import pytest

from approxtrain.bench import timing
from approxtrain.bench.timing import Ratio, Times, interleaved, interval, ratio


def times(rng: np.random.Generator, median: float, jitter: float, rounds: int = 20) -> Times:
    """Log-normal times: what a machine does besides only ever makes them longer by a factor."""
    return Times(tuple(median * rng.lognormal(0, jitter, rounds)))


def test_calls_are_interleaved_each_once_untimed_before_it_is_timed_and_the_first_round_does_not_count(monkeypatch):
    clock, log, rounds = [0.0], [], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def call(name: str, seconds: float) -> None:
        log.append(name)
        untimed = log.count(name) % 2  # and slow, as all of the first round
        clock[0] += seconds + (10 if len(log) <= 4 or untimed else 0)

    calls = {"A": lambda: call("A", 1), "B": lambda: call("B", 2)}
    taken = interleaved(calls, 3, on_round=lambda: rounds.append(len(log)))
    assert rounds == [4, 8, 12, 16]
    orders = ["".join(log[start : start + 4]) for start in range(0, 16, 4)]
    assert set(orders) == {"AABB", "BBAA"}  # each in every round, and not always after the same other
    assert taken == {"A": Times((1, 1, 1)), "B": Times((2, 2, 2))}


def test_the_interval_holds_the_true_ratio_nineteen_times_in_twenty_and_is_not_just_wide():
    rng = np.random.default_rng(1)
    ratios = [ratio(times(rng, 1.3, 0.05), times(rng, 1.0, 0.05)) for _ in range(200)]
    assert np.mean([each.low <= 1.3 <= each.high for each in ratios]) >= 0.9
    assert np.median([each.high - each.low for each in ratios]) < 0.13
    assert all(each.low <= each.value <= each.high for each in ratios)


def test_the_rounds_are_resampled_whole_so_that_a_slower_machine_changes_nothing():
    drift = np.repeat([1.0, 3.0], 10)
    slower = ratio(Times(tuple(1.1 * drift)), Times(tuple(drift)))
    assert (slower.low, slower.value, slower.high) == pytest.approx((1.1, 1.1, 1.1))
    assert slower.spread > timing.NOISY_SPREAD
    assert slower.verdict == "SLOWER"


@pytest.mark.parametrize(
    ("low", "high", "spread", "verdict"),
    [
        (0.80, 0.99, 0.1, "FASTER"),
        (0.80, 0.99, 9.0, "FASTER"),
        (0.80, 1.00, 0.1, "SAME"),
        (1.00, 1.20, 0.1, "SAME"),
        (0.90, 1.10, 0.25, "SAME"),
        (0.90, 1.10, 0.26, "NOISY"),
        (0.85, 1.10, 0.1, "NOISY"),
        (1.01, 1.20, 0.1, "SLOWER"),
        (2.00, 3.00, 0.1, "SLOWER"),
        (1.10, 1.70, 0.1, "NOISY"),
        (0.40, 0.80, 0.1, "NOISY"),
        (2.00, 4.10, 0.1, "NOISY"),
        (3.00, 8.00, 0.1, "SLOWER"),
        (0.15, 0.30, 0.1, "FASTER"),
    ],
)
def test_the_verdict_asks_whether_the_interval_holds_1_how_wide_it_is_and_then_for_the_spread(
    low, high, spread, verdict
):
    assert Ratio(1.0, low, high, spread, rounds=20).verdict == verdict


@pytest.mark.parametrize(("rounds", "verdict"), [(5, "NOISY"), (6, "FASTER")])
def test_so_few_rounds_that_there_is_no_interval_give_no_verdict(rounds, verdict):
    rng = np.random.default_rng(0)
    assert ratio(times(rng, 0.5, 0.01, rounds), times(rng, 1.0, 0.01, rounds)).verdict == verdict


@pytest.mark.parametrize(
    ("factor", "jitter", "verdict"),
    [(1.0, 0.02, "SAME"), (1.0, 0.5, "NOISY"), (0.5, 0.02, "FASTER"), (2.0, 0.02, "SLOWER"), (4.0, 0.2, "SLOWER")],
)
def test_planted_jitter_makes_equal_times_noisy_but_hides_no_large_difference(factor, jitter, verdict):
    rng = np.random.default_rng(0)
    assert ratio(times(rng, factor, jitter), times(rng, 1.0, jitter)).verdict == verdict


def test_two_runs_have_no_rounds_in_common():
    drift = np.repeat([1.0, 3.0], 10)
    now, then = Times(tuple(1.1 * drift)), Times(tuple(drift))
    assert ratio(now, then).high < 1.11
    assert ratio(now, then, together=False).high > 1.5
    assert ratio(now, then, together=False).verdict == "NOISY"


def test_a_difference_of_medians_has_its_interval():
    rng = np.random.default_rng(0)
    value, low, high = interval(lambda new, base: base - new, times(rng, 1.0, 0.02), times(rng, 3.0, 0.02))
    assert low < value < high
    assert (low, high) == (pytest.approx(2.0, abs=0.1), pytest.approx(2.0, abs=0.1))
    same = times(rng, 1.0, 0.1)
    assert interval(lambda new, base: base - new, same, same) == (0, 0, 0)
