"""Times of spans of a schedule are those of its columns, as often as it has them."""

from __future__ import annotations

import pytest

from approxtrain.bench.timing import Times
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.alone import alone
from approxtrain.training.workload import Workload
from approxtrain.worth import step_times as module
from approxtrain.worth.step_times import Span, step_times

LATER = ScheduleConfig.model_validate(
    {
        "rules": [{"method": "skip", "layers": [1], "steps": {"start": 3, "every": 2}}],
        "image_shares": [{"share": 0.5, "epochs": {"from": 3}}],
        "frozen_prefix": True,
    }
)


@pytest.fixture
def work(configure):
    return Workload.of(configure({"name": "full"}, epochs=3))


def test_a_column_alone_is_at_every_step_and_equal_ones_are_one_schedule(work):
    steps = work.steps_per_epoch
    schedule, full = (Schedule.from_config(each, work.model.layers, steps, 3) for each in (LATER, work.config.schedule))
    for step in range(3 * steps):
        index = schedule.index(step)
        only = alone(schedule, index)
        assert only.columns == (schedule.columns[index],)
        assert only.column_seen == (schedule.column_seen[index],)
        assert {only.index(each) for each in range(9)} == {0}
    assert alone(schedule, schedule.index(0)) == full
    assert alone(schedule, schedule.index(3)).frozen_prefix


@pytest.mark.gate
def test_a_span_is_timed_by_its_own_columns(work, monkeypatch):
    """It is made up that they take 3 and 7 s a step at best, and the exact one 0.9 or 1.1."""
    timed = []

    def interleaved(calls, rounds):
        timed.append((len(calls), rounds))
        for call in calls.values():
            call()  # it runs
        taken = zip(calls, (0.9, 1.1, 3.0, 7.0), strict=True)
        return {name: Times((2 * seconds, seconds, 3 * seconds)) for name, seconds in taken}

    monkeypatch.setattr(module, "interleaved", interleaved)
    spans = {"exact": Span(LATER, 0, 3), "mixed": Span(LATER, 2, 5), "late": Span(LATER, 12, 13)}
    found = step_times(work, spans, 4)
    assert timed == [(4, 4)]
    assert found == pytest.approx({"exact": 1.0, "mixed": 5 / 3, "late": 7.0})
