"""Phases and rules that begin at different steps: where they are joined, counted and in each other's way."""

from __future__ import annotations

import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig


def rules(*entries) -> Schedule:
    section = {"rules": [{"method": "zero", "layers": [1], **entry} for entry in entries]}
    return Schedule.from_config(ScheduleConfig.model_validate(section), models.get("cnn2").layers, 10)


def test_phases_that_agree_for_a_while_only_stay_two():
    # steps 0, 2 and 4, and then 6, 8, 9, 11, 12, …: every other step as far as 8
    made = rules({"steps": {"stop": 6, "every": 2}}, *({"steps": {"start": start, "every": 3}} for start in (6, 8)))
    used = [step for step in range(16) if made.column(step)[0].name == "zero"]
    assert used == [0, 2, 4, 6, 8, 9, 11, 12, 14, 15]


def test_visits_are_counted_from_the_first_step_of_a_phase():
    made = rules({"steps": {"start": 5, "every": 3}})
    assert [first for first, _ in made.phases] == [0, 5]
    assert made.visits(0, 9)[0].tolist() == [7, 2]  # zero at steps 5 and 8
    assert made.visits(6, 9)[0].tolist() == [2, 1]


def test_rules_disagree_where_they_first_meet_after_both_have_begun():
    with pytest.raises(ConfigError, match="at step 8"):  # by their numbers alone they would meet at step 2
        rules({"steps": {"every": 2}}, {"steps": {"start": 5, "every": 3}, "method": "random"})
