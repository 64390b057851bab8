"""How predictions are put together and judged, of measurements that are made up."""

from __future__ import annotations

import pytest

from approxtrain.report.estimates import Estimate
from approxtrain.schedule import Schedule
from approxtrain.worth.choice import Measured, Part, Phase, Plan
from approxtrain.worth.forecast import Trace
from tools import predictor, ranks, worths
from tools.frontier.families import FAMILIES
from tools.frontier.times import schedule_of
from tools.frontier.unseen import UNSEEN, Use, frozen, stages

PHASES = (Phase(0.0, 0.4), Phase(0.4, 1.0))
TRACE = Trace(slope=0.5, slope_error=0.0, error=25.0)
POOLED, PREFIX = stages("pooled", 2)[0].option, frozen(7)[0].option
OPTIONS = {
    POOLED.name: {"time": 0.9, "worth": (0.8, 0.95), "error": (0.02, 0.03)},
    PREFIX.name: {"time": 0.8, "worth": (0.7, 0.9), "error": (0.04, 0.05)},
}


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    monkeypatch.setattr(predictor, "tuned", lambda: predictor.Tuned(60.0, PHASES, OPTIONS, TRACE))


def test_a_schedule_that_the_command_could_choose_is_predicted_as_the_command_does():
    measured = {name: Measured(POOLED, *each.values()) for name, each in OPTIONS.items()}
    plan = Plan(PHASES, (Part(0, measured[PREFIX.name], 2), Part(1, measured[POOLED.name], 1)))
    uses = (*frozen(7, 0.0, 0.4, thinned=2), *stages("pooled", 2, begin=0.4))
    assert predictor.predicted_time(uses) == pytest.approx(plan.time)
    assert predictor.predicted(uses) == pytest.approx(TRACE.drop(plan.images, plan.error))


def test_a_part_that_lies_in_two_phases_has_the_worth_of_both():
    drop = predictor.predicted(stages("pooled", 2, begin=0.2, end=0.6))
    images = 1 - 0.2 * 0.2 - 0.2 * 0.05
    assert drop.points == pytest.approx(25 * (images**-0.5 - 1))


@pytest.mark.parametrize("name", UNSEEN)
def test_the_schedules_have_as_many_exact_cells_as_is_said(name):
    family = FAMILIES["unseen"]
    schedule = schedule_of(family, name)
    visits = schedule.column_visits(0, 4 * family.steps(name))
    exact = sum(
        n * sum(method.name == "full" for method in column)
        for n, column in zip(visits.tolist(), schedule.columns, strict=True)
    )
    assert predictor.cells(UNSEEN[name]) == pytest.approx(exact / visits.sum() / 19, abs=2e-3)
    assert isinstance(schedule, Schedule)


def test_alignment_is_one_where_gradients_are_exact_and_none_where_there_is_none(monkeypatch):
    monkeypatch.setattr(worths, "alignment_of_layers", lambda network: {("pooled", 8): 0.9, ("pooled", 9): 0.8})
    assert predictor.alignment(()) == 1
    assert predictor.alignment(stages("zero", 3, end=0.5)) == pytest.approx(1 - 6 / 19 / 2)
    assert predictor.alignment((Use(POOLED._replace(last=9)),)) == pytest.approx(1 - 0.3 / 19)


def test_the_order_of_twelve_at_a_correlation_of_four_fifths_is_not_known_well():
    wanted = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    rho = ranks.correlation([3, 1, 2, 8, 6, 4, 5, 7, 12, 10, 11, 9], wanted)
    differences = [2, 1, 1, 4, 1, 2, 2, 1, 3, 0, 0, 3]
    assert rho.mean == pytest.approx(1 - 6 * sum(d * d for d in differences) / (12 * 143))
    assert rho.low < 0.6 < rho.mean < rho.high < 1
    assert ranks.text(Estimate(-0.5, -0.8, 0.1, 12)) == "−0.50 (−0.80 to 0.10), n = 12"
    assert ranks.correlation(wanted, wanted) == Estimate(pytest.approx(1.0), None, None, 12)
