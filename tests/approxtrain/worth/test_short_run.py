"""A short run has the learning rate of the whole one at each share of it."""

from __future__ import annotations

import numpy as np
import pytest

from approxtrain.config import load
from approxtrain.training.optimizer import learning_rate
from approxtrain.worth.short_run import shortened

STEPS = 100  # an epoch


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("rate", ["constant", "exponential", "cosine", "linear", "onecycle", "step"])
def test_the_rate_at_a_share_of_the_run_is_that_of_the_whole_one(rate, warmup):
    whole = load("quickstart", ["train.epochs=20", f"optimizer.rate={rate}", f"optimizer.warmup={warmup}"])
    short = shortened(whole, 5)
    assert short.train.epochs == 5
    courses = [learning_rate(each.optimizer, STEPS, STEPS * each.train.epochs) for each in (whole, short)]
    shares = np.array([0.07, 0.31, 0.52, 0.9])
    whole_rates, short_rates = (
        [float(np.asarray(course(int(share * STEPS * epochs)))) for share in shares]
        for course, epochs in zip(courses, (20, 5), strict=True)
    )
    assert short_rates == pytest.approx(whole_rates, rel=0.03)


def test_a_run_that_is_short_already_stays_as_it_is():
    config = load("quickstart", ["train.epochs=3"])
    assert shortened(config, 4) == config


def test_weights_stop_training_at_the_same_share_of_the_run():
    run = ["train.epochs=20", "optimizer.name=sgd"]
    dropback = load("quickstart", [*run, "optimizer.dropback={ keep = 0.1, freeze = 5 }"])
    prunetrain = load("quickstart", [*run, "optimizer.prunetrain={ every = 2 }"])
    by_share = load("quickstart", [*run, 'optimizer.prunetrain={ every = "30%" }'])
    assert float(shortened(dropback, 4).optimizer.dropback.freeze.rstrip("%")) == 25
    assert float(shortened(prunetrain, 4).optimizer.prunetrain.every.rstrip("%")) == 10
    assert shortened(by_share, 4).optimizer.prunetrain.every == "30%"
