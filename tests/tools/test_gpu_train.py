"""Two runs of one training side by side (`bench/gpu/train.py`): what may differ, and what may not."""

from __future__ import annotations

import pytest

from approxtrain.config import load
from tools.gpu.train import SHOWN, Comparison, distance


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    small = ["data.name=shapes", "data.limit=128", "train.batch_size=4", "train.epochs=1"]
    return Comparison(load("cnn2-approx", small))


def test_a_run_is_itself_again_but_drifts_away_when_every_weight_is_one_ulp_up(comparison):
    found = comparison.drift()
    assert len(found["first_losses"]) == SHOWN
    assert found["apart"]["run again"] == [0.0] * SHOWN
    apart = found["apart"]["one ulp"]
    assert apart[0] < 1e-5
    assert found["largest"]["one ulp"] == max(apart) > 0


def test_a_run_has_the_losses_that_its_drift_is_measured_from(comparison):
    once, again = comparison.run(None), comparison.run("reference")
    assert once["first_losses"] == comparison.drift()["first_losses"]
    assert len(once["mean_losses"]) == 1
    apart = distance([once, again])
    assert apart["first_loss"] == abs(once["first_losses"][0] - again["first_losses"][0]) < 1e-5
    assert 0 < apart["largest_of_the_first_losses"] < 0.1
