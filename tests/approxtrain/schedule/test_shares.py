"""Rules over shares of a run: exact at first, approximated, exact before the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approxtrain import models
from approxtrain.config import load, plain, refuse_changes
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.stamps import Calendar

LAYERS = models.get("cnn2").layers


def zero_at(section: dict, steps_per_epoch: int, epochs: int | None, layer: int = 1) -> list[int]:
    """The steps of a run at which a layer is `zero`."""
    schedule = Schedule.from_config(ScheduleConfig.model_validate(section), LAYERS, steps_per_epoch, epochs)
    steps = steps_per_epoch * (epochs or 1)
    return [step for step in range(steps) if schedule.column(step)[layer - 1].name == "zero"]


def rule(**conditions) -> dict:
    return {"rules": [{"method": "zero", **conditions}]}


def test_a_share_is_of_all_steps_of_the_run():
    assert zero_at(rule(epochs={"from": "3%", "to": "80%"}), 50, 2) == list(range(3, 80))
    assert zero_at(rule(epochs={"from": "2.5%", "to": "50%"}, steps={"every": 2}), 10, 10) == list(range(4, 50, 2))
    assert zero_at(rule(epochs={"from": 2, "to": "75%"}), 5, 4) == list(range(5, 15))
    assert zero_at({**rule(), "until_epoch": "80%"}, 101, 1) == list(range(81))  # 80.8 steps: the 81st has begun


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 60), st.integers(1, 60))
def test_shares_follow_one_another_without_a_gap_and_without_meeting(one, other, steps_per_epoch, epochs):
    low, high = sorted((one, other))
    calendar, total = Calendar(steps_per_epoch, epochs), steps_per_epoch * epochs
    bounds = [f"{share / 10}%" for share in (low, high)]
    assert calendar.end(bounds[0]) == calendar.begin(bounds[0]) <= calendar.end(bounds[1]) <= total
    assert (calendar.begin("0%"), calendar.end("100%")) == (0, total)
    assert calendar.end(bounds[0]) - 1 < low * total / 1000 <= calendar.end(bounds[0])


def test_a_share_of_no_run_and_one_that_is_none_are_refused_in_words():
    with pytest.raises(ConfigError, match="it has shares of a run, and how many epochs the run has is not said"):
        zero_at(rule(epochs={"from": "3%"}), 50, None)
    for wrong in ("3", "101%", "-3%", "three%", "%"):
        with pytest.raises(ConfigError, match=r'must be a whole number, or a share of the run such as "3%"'):
            load("quickstart", [f"schedule={{ rules=[{{ method='zero', epochs={{ from='{wrong}' }} }}] }}"])
    with pytest.raises(ConfigError, match="it covers no step"):
        zero_at(rule(epochs={"from": "80%", "to": "30%"}), 50, 2)


def test_a_run_under_shares_is_not_trained_longer():
    shares = ["schedule={ rules=[{ method='zero', epochs={ to='80%' } }] }"]
    before, after = (plain(load("quickstart", [*shares, f"train.epochs={epochs}"])) for epochs in (10, 20))
    with pytest.raises(ConfigError, match="cannot become 20, because the schedule has shares of the run"):
        refuse_changes(before, after)
    refuse_changes(plain(load("quickstart")), plain(load("quickstart", ["train.epochs=20"])))


def test_the_title_says_the_share():
    config = ScheduleConfig.model_validate({"name": "schedule1", "until_epoch": "80%"})
    assert config.title == "schedule1 with approx until 80% of the run"
