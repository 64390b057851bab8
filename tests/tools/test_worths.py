"""The table of what methods are worth, of measurements that are made up."""

from __future__ import annotations

import pytest

from approxtrain.bench.timing import Ratio
from approxtrain.worth.shares import Row, Worth
from tools import methods, worths
from tools.frontier import times

PREFIX = "rules, frozen prefix"
WORTH = {"pooled from layer 2": 0.95, PREFIX: 0.9, "approx from layer 2": 0.4}


def row(arm: str, epoch: int | None, value: float) -> dict:
    worth = Worth(value, 0.01, 100)
    return Row(arm, epoch, 1.0, worth, 1.7).as_json()


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    rows = [row(arm, epoch, value) for arm, value in WORTH.items() for epoch in (1, 2, None)]
    aligned = [
        {"epoch": epoch, "layer": layer, "method": "approx(k=4)", "alignment": 0.1 * layer + 0.02 * epoch}
        for epoch in (1, 2)
        for layer in (2, 3)
    ]
    monkeypatch.setattr(worths, "found", lambda network: {"rows": rows, "alignments": aligned})
    timed = Ratio(0.8, 0.7, 0.9, spread=0.0, rounds=9)
    monkeypatch.setattr(methods, "over_exact", lambda network: {"pooled": timed, "approx": timed})
    monkeypatch.setattr(times, "share_of_time", lambda network, arm: Ratio(0.85, 0.8, 0.9, spread=0.0, rounds=9))


def test_the_best_comes_first_and_times_are_those_of_the_bench():
    _, first, prefix, second = worths.rows("resnet20")
    assert prefix[0].startswith("frozen prefix")
    assert prefix[-3:] == ("0.85", "better than fewer images", "–")
    assert first == ("pooled", "0.95 (0.93 to 0.97)", "0.95", "0.95", "0.80", "better than fewer images", "–")
    assert second == ("approx", "0.40 (0.38 to 0.42)", "0.40", "0.40", "0.80", "worse than fewer images", "0.28")


def test_a_layers_alignment_is_the_mean_over_epochs():
    assert worths.alignment_of_layers("resnet20") == pytest.approx({("approx", 2): 0.23, ("approx", 3): 0.33})
