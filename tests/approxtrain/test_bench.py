"""Measurements: interleaved, checked before they are timed, and with a verdict that noise cannot buy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from approxtrain.bench import timing
from approxtrain.bench.timing import Ratio, Times, interleaved, ratio
from approxtrain_kernels import conv_shape
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.zero import Zero

SHAPE = conv_shape((2, 4, 4, 3), 5, (3, 3))


def times(rng: np.random.Generator, median: float, jitter: float, rounds: int = 20) -> Times:
    """Log-normal times: what a machine does besides only ever makes them longer by a factor."""
    return Times(tuple(median * rng.lognormal(0, jitter, rounds)))


def test_calls_are_interleaved_and_the_first_rounds_do_not_count(monkeypatch):
    clock, log, rounds = [0.0], [], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def call(name: str, seconds: float) -> None:
        log.append(name)
        clock[0] += seconds + (10 if len(log) <= 4 else 0)  # the first two rounds are slow

    calls = {"A": lambda: call("A", 1), "B": lambda: call("B", 2)}
    taken = interleaved(calls, 3, warm_up=2, on_round=lambda: rounds.append(len(log)))
    assert "".join(log) == "ABABABABAB"
    assert rounds == [2, 4, 6, 8, 10]
    assert taken == {"A": Times((1, 1, 1)), "B": Times((2, 2, 2))}


def test_the_interval_holds_the_true_ratio_nineteen_times_in_twenty_and_is_not_just_wide():
    rng = np.random.default_rng(1)
    found = [ratio(times(rng, 1.3, 0.05), times(rng, 1.0, 0.05)) for _ in range(200)]
    assert np.mean([each.low <= 1.3 <= each.high for each in found]) >= 0.9
    assert np.median([each.high - each.low for each in found]) < 0.13
    assert all(each.low <= each.value <= each.high for each in found)


def test_the_rounds_are_resampled_whole_so_that_a_slower_machine_changes_nothing():
    drift = np.repeat([1.0, 3.0], 10)
    found = ratio(Times(tuple(1.1 * drift)), Times(tuple(drift)))
    assert (found.low, found.value, found.high) == pytest.approx((1.1, 1.1, 1.1))
    assert found.spread > timing.NOISY_SPREAD
    assert found.verdict == "SLOWER"


@pytest.mark.parametrize(
    ("low", "high", "spread", "verdict"),
    [
        (0.80, 0.99, 0.1, "FASTER"),
        (0.80, 0.99, 9.0, "FASTER"),
        (0.80, 1.00, 0.1, "SAME"),
        (1.00, 1.20, 0.1, "SAME"),
        (0.90, 1.10, 0.25, "SAME"),
        (0.90, 1.10, 0.26, "NOISY"),
        (1.01, 1.20, 0.1, "SLOWER"),
    ],
)
def test_the_verdict_asks_whether_the_interval_holds_1_and_then_for_the_spread(low, high, spread, verdict):
    assert Ratio(1.0, low, high, spread).verdict == verdict


@pytest.mark.parametrize(
    ("factor", "jitter", "verdict"),
    [(1.0, 0.02, "SAME"), (1.0, 0.5, "NOISY"), (0.5, 0.02, "FASTER"), (2.0, 0.02, "SLOWER"), (4.0, 0.5, "SLOWER")],
)
def test_planted_jitter_makes_equal_times_noisy_but_hides_no_large_difference(factor, jitter, verdict):
    rng = np.random.default_rng(0)
    assert ratio(times(rng, factor, jitter), times(rng, 1.0, jitter)).verdict == verdict


@pytest.mark.parametrize(("dtype", "method"), [("float32", Zero()), ("bfloat16", Approx(k=2))], ids=["zero", "approx"])
def test_a_row_that_is_right_has_every_sample(dtype, method):
    from approxtrain.bench import kernel

    (row,) = kernel.run([SHAPE], method, dtype, rounds=3)
    assert row.failed == ()
    assert row.as_json()["shape"] == dataclasses.asdict(SHAPE)
    assert {name: len(samples) for name, samples in row.as_json()["milliseconds"].items()} == {"dense": 3, "method": 3}
    assert row.as_json()["ratio"].keys() == {"value", "low", "high", "spread", "verdict"}


class NotFinite(Approx):
    """`approx` with one NaN in it."""

    def estimate(self, x, dy, **options):
        return super().estimate(x, dy, **options).at[0, 0, 0, 0].set(float("nan"))


class Slightly(Approx):
    """`approx`, 2e-5 too large: twice the tolerance."""

    def estimate(self, x, dy, **options):
        return super().estimate(x, dy, **options) * (1 + 2e-5)


@pytest.mark.parametrize("method", [NotFinite(), Slightly()], ids=["NaN", "twice the tolerance"])
def test_a_row_that_is_wrong_is_not_timed(method, monkeypatch):
    from approxtrain.bench import kernel

    monkeypatch.setattr(kernel, "interleaved", lambda calls, rounds: pytest.fail("it was timed"))
    (row,) = kernel.run([SHAPE], method, "float32", rounds=3)
    assert (row.failed, row.times, row.ratio) == (("method",), None, None)


def test_the_plain_network_and_ours_compute_the_same_step(small, configure):
    from approxtrain.bench.step import PlainConv, StepBench

    bench = StepBench(configure({"name": "full"}))
    losses = []
    for modules in ([], [PlainConv]):
        dispatch, state = bench._dispatch(bench._full(), "host", *modules)
        losses.append(float(dispatch(0, state, bench.images, bench.order)[1].loss))
    ours, plain = losses
    assert ours == pytest.approx(plain, rel=1e-5)
