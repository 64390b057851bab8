"""How predictions are put together and judged, of measurements that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from approxtrain.report.estimates import Estimate
from approxtrain.worth.choice import Measured, Part, Phase, Plan
from approxtrain.worth.forecast import Trace
from tools import predictor, ranks, worths
from tools.frontier.families import FAMILIES
from tools.frontier.times import schedule_of
from tools.predictor import UNSEEN, Use, frozen, looking, pooled

PHASES = (Phase(0.0, 0.4), Phase(0.4, 1.0))
TRACE = Trace(slope=0.5, slope_error=0.0, error=25.0)
POOLED, PREFIX, SMALL = pooled()[0].option, frozen(7).option, looking(0, 1, size=24).option
MEASURED = {
    POOLED.name: Measured(POOLED, 0.9, (0.8, 0.95), (0.02, 0.03)),
    PREFIX.name: Measured(PREFIX, 0.8, (0.7, 0.9), (0.04, 0.05)),
    SMALL.name: Measured(SMALL, 0.6, (0.9, 0.5), (0.01, 0.02)),
}


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    options = {name: each._asdict() | {"option": name} for name, each in MEASURED.items()}
    monkeypatch.setattr(predictor, "tuned", lambda: predictor.Tuned(60.0, PHASES, options, TRACE))


def test_a_schedule_that_the_command_could_choose_is_predicted_as_the_command_does():
    small, prefix, one = (MEASURED[each.name] for each in (SMALL, PREFIX, POOLED))
    plan = Plan(PHASES, (Part(0, small), Part(0, prefix, look=small), Part(1, one)))
    uses = [looking(0.0, 0.4, size=24), frozen(7, 0.0, 0.4), Use(POOLED, 0.4)]
    assert predictor.predicted_time(uses) == pytest.approx(plan.time)
    assert predictor.predicted(uses) == pytest.approx(TRACE.drop(plan.images, plan.error))


def test_a_part_that_lies_in_two_phases_has_the_worth_of_both():
    drop = predictor.predicted([Use(POOLED, 0.2, 0.6)])
    images = 1 - 0.2 * 0.2 - 0.2 * 0.05
    assert drop.points == pytest.approx(25 * (images**-0.5 - 1))


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_predicted_is_the_schedule_that_is_trained(name):
    family, uses = FAMILIES["resnet20"], UNSEEN[name]
    schedule, steps = schedule_of(family, name), 4 * family.steps(name)
    for step in np.linspace(0, steps - 1, 97).astype(int).tolist():
        used = [use for use in uses if use.begin <= step / steps < use.end]
        methods = {n: method.name for n, method in enumerate(schedule.column(step), start=1) if method.name != "full"}
        due = [use.option for use in used if hasattr(use.option, "method") and step % use.option.every]
        due += [use.option for use in used if hasattr(use.option, "method") and use.option.every == 1]
        assert methods == {n: each.method for each in due for n in range(each.first, each.last + 1)}
        seen = schedule.column_seen[schedule.index(step)]
        looks = [use.option.seen for use in used if hasattr(use.option, "seen")]
        assert seen.size == next((each.size for each in looks if each.size), None)
        assert seen.share == min([1.0, *(each.share for each in looks)])


def test_alignment_is_one_where_gradients_are_exact_and_none_where_there_is_none(monkeypatch):
    monkeypatch.setattr(worths, "alignment_of_layers", lambda network: {("pooled", 8): 0.9, ("pooled", 9): 0.8})
    assert predictor.alignment([looking(0, 1, size=24)]) == 1
    assert predictor.alignment([frozen(7, 0.5)]) == pytest.approx(1 - 7 / 19 / 2 / 2)
    assert predictor.alignment([Use(POOLED._replace(first=8, last=9))]) == pytest.approx(1 - 0.3 / 19)


def test_the_order_of_twelve_at_a_correlation_of_four_fifths_is_not_known_well():
    wanted = list(range(12))
    rho = ranks.correlation([2, 0, 1, 7, 5, 3, 4, 6, 11, 9, 10, 8], wanted)
    differences = [2, 1, 1, 4, 1, 2, 2, 1, 3, 0, 0, 3]
    assert rho.mean == pytest.approx(1 - 6 * sum(d * d for d in differences) / (12 * 143))
    assert rho.low < 0.6 < rho.mean < rho.high < 1
    assert ranks.text(Estimate(-0.5, -0.8, 0.1, 12)) == "−0.50 (−0.80 to 0.10), n = 12"
    assert ranks.correlation(wanted, wanted) == Estimate(pytest.approx(1.0), None, None, 12)
