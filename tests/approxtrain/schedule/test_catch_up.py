"""How many steps a weight catches up, by counting them one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from approxtrain import models
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.catch_up import steps_since_update

LAYERS = models.get("cnn5").layers


@given(arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 7))))
def test_the_steps_since_the_last_update_are_counted_over_the_end_of_the_period(updated):
    found, period = steps_since_update(updated), updated.shape[1]
    for layer, row in enumerate(updated):
        for step in range(period):
            back = next((n for n in range(1, period + 1) if row[(step - n) % period]), 1)
            assert found[layer, step] == (back if row[step] else 1)
        if row.any():
            assert found[layer][row].sum() == period  # as far as at each step


def schedule(**more) -> Schedule:
    rules = [{"method": "skip", "layers": [1, 2], "steps": {"every": 3}}]
    return Schedule.from_config(ScheduleConfig.model_validate({"rules": rules, **more}), LAYERS, 10)


def test_only_layers_that_are_skipped_catch_up_and_only_where_it_is_asked_for():
    found = schedule(catch_up=True)
    assert [found.column_factors[found.index(step)][:3] for step in range(6)] == [(1, 1, 1), (2, 2, 1), (1, 1, 1)] * 2
    assert len(found.columns) == 3
    assert {factor for factors in schedule().column_factors for factor in factors} == {1}
    assert len(schedule().columns) == 2
    assert found != schedule()
    np.testing.assert_array_equal(found.visits(0, 7), schedule().visits(0, 7))
