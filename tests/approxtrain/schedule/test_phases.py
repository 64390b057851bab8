"""Phases and rules that begin at different steps: where they are joined, counted and in each other's way."""

from __future__ import annotations

import time

import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig, phases, stamps


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


MANY = 2000


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (lambda n: {"steps": {"start": 10 * n, "stop": 10 * n + 5}}, 2 * MANY),
        (lambda n: {"order": n, "method": ["zero", "skip"][n % 2]}, 1),
        (lambda n: {"method": ["zero", "skip"][n % 2], "epochs": {"from": n + 1, "to": n + 1}}, MANY + 1),
        (lambda n: {}, 1),
    ],
    ids=["one after the other", "one above the other", "an epoch each", "all the same"],
)
def test_thousands_of_rules_take_time_by_their_number_and_not_by_their_pairs(rule, count):
    section = {"rules": [{"method": "zero", "layers": [1], **rule(n)} for n in range(MANY)]}
    config, layers, begin = ScheduleConfig.model_validate(section), models.get("cnn2").layers, time.thread_time()
    assert len(Schedule.from_config(config, layers, 10).phases) == count
    assert time.thread_time() - begin < 1.5  # compared in pairs they take several


def test_what_a_phase_costs_is_counted_without_looking_at_all_the_others():
    made = rules(*({"steps": {"start": 10 * n, "stop": 10 * n + 5}} for n in range(MANY)))
    begin = time.thread_time()
    visits = [made.column_visits(10 * n, 10 * n + 10).tolist() for n in range(MANY)]
    assert visits == [[5, 5]] * MANY
    assert time.thread_time() - begin < 1.0  # looking at all of them takes two


def test_long_periods_are_tabulated_up_to_a_bound_for_all_of_them_together():
    def every(period, number):
        return {"steps": {"start": 100_000 * number, "stop": 100_000 * (number + 1), "every": period}}

    assert len(rules(*(every(period, number) for number, period in enumerate((30_011, 30_013, 30_029)))).phases) == 4
    with pytest.raises(
        ConfigError, match=r"from step 300000 on, .* every 30,047 steps, and of the 100,000 .* 9,947 are"
    ):
        rules(*(every(period, number) for number, period in enumerate((30_011, 30_013, 30_029, 30_047))))


def test_rules_that_are_all_within_one_another_are_refused_before_all_of_them_are_looked_at(monkeypatch):
    monkeypatch.setattr(phases, "MAX_OVERLAPS", 100)
    with pytest.raises(ConfigError, match="20 rules begin and end within one another, so that more than 100 pairs"):
        rules(*({"steps": {"start": n, "stop": 100 + n}} for n in range(20)))


def test_of_many_rules_that_disagree_the_first_are_told(monkeypatch):
    def alternating(**more):
        return [{"method": ["zero", "skip"][n % 2], **more} for n in range(100)]

    with pytest.raises(ConfigError) as error:
        rules(*alternating())
    assert len(error.value.problems) == 21
    assert error.value.problems[0].startswith("`schedule.rules.1`: it disagrees with `schedule.rules.0`: zero there")
    monkeypatch.setattr(stamps, "MAX_RIVALS", 50)
    with pytest.raises(ConfigError, match="more than 50 times, two rules of different methods and the same order"):
        rules(*({**rule, "steps": {"start": n, "every": 100}} for n, rule in enumerate(alternating())))
