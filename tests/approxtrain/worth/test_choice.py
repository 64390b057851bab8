"""The choice among options against brute force, and the forecast on planted power laws."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.seen import Seen
from approxtrain.worth import choice, forecast, front
from approxtrain.worth.choice import Measured, Phase, cheapest, fastest, phases_around, shrunk
from approxtrain.worth.forecast import Trace
from approxtrain.worth.fork_file import Fork
from approxtrain.worth.forks import EXACT_ARMS
from approxtrain.worth.options import Look, Option, options_of
from approxtrain.worth.shares import Worth

LOW = Option("pooled", 2, 3, (0,))
HIGH = Option("pooled", 4, 5, (1,))
PREFIX = Option("skip", 1, 3, (0,), every=2)
PHASES = (Phase(0.03, 0.5), Phase(0.5, 0.8))
MEASURED = [
    Measured(LOW, 0.9, (0.95, 0.99), (0.02, 0.02)),
    Measured(HIGH, 0.8, (0.9, 0.93), (0.02, 0.02)),
    Measured(PREFIX, 0.7, (0.97, 0.85), (0.02, 0.02)),
]
SMALL = Measured(Look(Seen(24)), 0.6, (0.9, 0.5), (0.05, 0.05))
HALF = Measured(Look(Seen(share=0.5)), 0.52, (0.75, 0.7), (0.05, 0.05))
LOOKING = [*MEASURED[1:], SMALL, HALF]
TIMES = {"pooled, layers 2 to 7": {"1": 0.9, "2": 0.9, "3": 0.9}}
TRACE = Trace(slope=0.5, slope_error=0.0, error=16.0)


@pytest.fixture(scope="module")
def layers():
    return models.get("resnet20").layers


def plans():
    """Each way to use the options: one at most in a place, at every step, every second or every fourth."""
    choices = [None, *itertools.product(range(3), (1, 2, 4))]
    for phases in itertools.product(itertools.combinations_with_replacement(choices, 2), repeat=2):
        parts = [
            choice.Part(phase, MEASURED[use[0]], use[1])
            for phase, uses in enumerate(phases)
            for use in uses
            if use is not None
        ]
        places = [(part.phase, group) for part in parts for group in part.measured.option.groups]
        if len(places) == len(set(places)):
            yield choice.Plan(PHASES, tuple(parts))


@pytest.mark.parametrize("time", [0.97, 0.9, 0.8, 0.72, 0.65])
def test_the_cheapest_plan_is_that_of_brute_force(time):
    best = max((plan.images for plan in plans() if plan.time <= time + 1e-12), default=None)
    found = cheapest(MEASURED, PHASES, time)
    if best is None:
        assert found is None
    else:
        assert found
        assert found.time <= time + 1e-6
        assert found.images == pytest.approx(best)


@pytest.mark.parametrize("images", [1.0, 0.99, 0.97, 0.9])
def test_the_fastest_plan_is_that_of_brute_force(images):
    best = min(plan.time for plan in plans() if plan.images >= images - 1e-12)
    found = fastest(MEASURED, PHASES, images)
    assert found.images >= images - 1e-6
    assert found.time == pytest.approx(best)


def plans_with_looks():
    """The same where a phase may have a look besides."""
    uses = [[None, *((number, thinned) for thinned in (1, 2, 4))] for number in range(2)]  # of groups of their own
    phases = list(itertools.product((None, SMALL, HALF), *uses))
    for of_phases in itertools.product(phases, repeat=2):
        if of_phases[1][0] is SMALL and of_phases[0][0] is not SMALL:
            continue  # small images begin a run
        parts = []
        for phase, (look, *uses) in enumerate(of_phases):
            parts += [choice.Part(phase, look)] if look else []
            parts += [choice.Part(phase, LOOKING[use[0]], use[1], look) for use in uses if use]
        yield choice.Plan(PHASES, tuple(parts))


@pytest.mark.parametrize("time", [0.9, 0.75, 0.6, 0.55])
def test_looks_at_the_images_are_chosen_as_by_brute_force(time):
    every = list(plans_with_looks())
    best = max(plan.images for plan in every if plan.time <= time + 1e-12)
    found = cheapest(LOOKING, PHASES, time)
    assert found
    assert found.time <= time + 1e-6
    assert found.images == pytest.approx(best)
    quickest = min(plan.time for plan in every if plan.images >= best - 1e-12)
    assert fastest(LOOKING, PHASES, best - 1e-9).time == pytest.approx(quickest)


def test_savings_multiply_with_those_of_the_look():
    plan = choice.Plan(PHASES, (choice.Part(0, SMALL), choice.Part(0, MEASURED[2], 2, SMALL)))
    assert plan.time == pytest.approx(1 - 0.47 * (1 - 0.6 * (1 - 0.3 / 2)))
    assert plan.images == pytest.approx(1 - 0.47 * (1 - 0.9 * (1 - 0.03 / 2)))


def test_under_a_look_that_is_worth_less_than_nothing_an_option_costs_nothing_more():
    spoilt = SMALL._replace(worth=(-0.5, -0.5))
    alone = choice.Plan(PHASES, (choice.Part(0, spoilt),))
    with_option = choice.Plan(PHASES, (choice.Part(0, spoilt), choice.Part(0, MEASURED[2], 1, spoilt)))
    assert with_option.images == alone.images


def test_a_plan_with_looks_becomes_the_schedule_that_it_means(layers):
    parts = (choice.Part(0, SMALL), choice.Part(0, MEASURED[2], 2, SMALL), choice.Part(1, HALF))
    schedule = Schedule.from_config(choice.Plan(PHASES, parts).schedule(), layers, 100, 10)
    assert [schedule.column_seen[schedule.index(step)] for step in (0, 30, 499, 500, 799, 800)] == [
        *[Seen(), Seen(24), Seen(24)],
        *[Seen(share=0.5), Seen(share=0.5), Seen()],
    ]
    assert schedule.frozen_prefix


def test_a_plan_costs_what_its_parts_do_over_their_shares_of_the_run():
    plan = choice.Plan(PHASES, (choice.Part(0, MEASURED[2], 2), choice.Part(1, MEASURED[1], 1)))
    assert plan.time == pytest.approx(1 - 0.47 * 0.3 / 2 - 0.3 * 0.2)
    assert plan.images == pytest.approx(1 - 0.47 * 0.03 / 2 - 0.3 * 0.07)
    assert plan.error == pytest.approx(math.hypot(0.47 * 0.02 / 2, 0.3 * 0.02))


def test_errors_of_one_option_add_up_over_phases():
    plan = choice.Plan(PHASES, tuple(choice.Part(phase, MEASURED[1]) for phase in (0, 1)))
    assert plan.error == pytest.approx((0.47 + 0.3) * 0.02)


def test_images_grow_and_never_shrink():
    smaller = Measured(Look(Seen(16)), 0.3, (0.8, 0.8), (0.05, 0.05))
    looks = [smaller, SMALL._replace(worth=(0.1, 0.95))]
    plans = [cheapest(looks, PHASES, time) for time in (0.85, 0.6)]
    used = [[(part.phase, part.measured.option.seen.size) for part in plan.parts] for plan in plans]
    assert used == [[(0, 16)], [(0, 16), (1, 24)]]  # 24 in the second phase would save enough, and cost less
    late = SMALL._replace(worth=(0.1, 1.0))
    assert 0 in [part.phase for part in cheapest([late], PHASES, 0.9).parts]  # the second phase alone would be enough


def test_what_begins_a_run_is_worth_as_much_in_each_phase():
    look = SMALL.option
    found = [replace(fork, losses=[5 - math.log(fork.end)] * 2) for fork in forks(lambda n: 50.0, (0, 2))]
    found.append(Fork(0, 0, look.name, 50, [5 - math.log(45)] * 2, [0.5] * 2, until=0.5))
    (measured,) = choice.measured([look], found, {look.name: {"0": 0.6}})
    assert measured.worth == pytest.approx((0.8, 0.8))
    assert measured.time == 0.6


def test_an_option_is_worth_in_each_phase_what_its_forks_say(layers):
    option = options_of(layers, ["pooled"])[0]
    found = [replace(fork, losses=[5 - math.log(fork.end), 5.1 - math.log(fork.end)]) for fork in forks(lambda n: 50.0)]
    for epoch, share in ((1, 0.4), (2, 0.6), (3, 1.5)):
        end = 100 * epoch + 50
        losses = [5 - math.log(end - (1 - share) * 50), 5.1 - math.log(end - (1 - share) * 50)]
        found.append(Fork(epoch, 100 * epoch, option.name, 50, losses, [0.5, 0.5]))
    (measured,) = choice.measured([option], found, TIMES)
    assert measured.worth == pytest.approx((0.4, 0.6, 1.0))  # none is believed to be better than exact steps
    assert measured.time == pytest.approx(0.9)


def test_errors_of_an_option_are_of_one_loss_and_wider_for_few_seeds():
    values, errors = choice._with_errors([Worth(0.9, 0.02, 1, 2.0), Worth(30.0, 0.0, 1, 4.0)])
    assert values == [0.9, choice.MOST]
    of_loss = math.sqrt(0.01**2 / 2) * 4.302653 / 1.959964  # Student's t of 2 degrees of freedom, the normal's
    assert errors == pytest.approx([2 * of_loss, 4 * of_loss])
    assert choice._with_errors([Worth(0.9, None, 1, 2.0), Worth(0.8, 0.0, 1, 4.0)])[1] == [choice.UNKNOWN] * 2


def test_a_plan_becomes_the_schedule_that_it_means(layers):
    parts = (choice.Part(0, MEASURED[2], 2), choice.Part(1, MEASURED[1], 1))
    schedule = Schedule.from_config(choice.Plan(PHASES, parts).schedule(), layers, 100, 10)
    expected = {0: "full", 29: "full", 31: "skip", 33: "full", 35: "skip", 499: "skip", 503: "full", 799: "full"}
    assert {step: schedule.column(step)[0].name for step in expected} == expected
    assert {schedule.column(step)[4].name for step in range(500)} == {"full"}
    assert {schedule.column(step)[4].name for step in range(500, 800)} == {"pooled"}
    assert {method.name for step in range(800, 1000) for method in schedule.column(step)} == {"full"}
    assert choice.Plan(PHASES, ()).schedule() == ScheduleConfig(name="full")


def test_phases_meet_half_way_between_the_forks():
    assert phases_around([0.25, 0.5, 0.75]) == (Phase(0.03, 0.375), Phase(0.375, 0.625), Phase(0.625, 0.8))


def test_noise_is_drawn_to_the_mean_and_differences_stay():
    rng = np.random.default_rng(0)
    for real, largest in ((0.0, 0.05), (0.2, 0.08)):
        errors = []
        for _ in range(300):
            truth = 0.6 + real * np.array([-1, 0, 1])
            drawn, error = shrunk((truth + rng.normal(0, 0.08, 3)).tolist(), [0.08] * 3)
            errors.append(np.mean(np.square(np.array(drawn) - truth)))
            assert all(0.03 < each <= 0.0801 for each in error)
        assert math.sqrt(np.mean(errors)) < largest + 0.01  # of single values 0.08; of three with one mean 0.046
    assert shrunk([1.3, 1.2], [1e-3, 1e-3])[0] == (1, 1)


def forks(error_of, epochs=(1, 2, 3), steps=50) -> list[Fork]:
    """Exact forks whose error in percent is `error_of` their steps in all, after epochs of 100 steps."""
    found = []
    for epoch, arm in itertools.product(epochs, EXACT_ARMS):
        taken = round(arm.share * steps)
        accuracy = 1 - error_of(100 * epoch + taken) / 100
        found.append(Fork(epoch, 100 * epoch, arm.name, taken, [1.0, 1.0], [accuracy] * 2))
    return found


def test_a_power_law_is_found_after_a_quarter_of_the_run_and_gone_on_with():
    def error(steps):  # that falls as one only then
        return 80 * max(steps / 100, 1) ** -0.4

    trace = forecast.trace(forks(error, (0, 1, 3)), (400, 100 - error(400)), longer=4)
    assert trace
    assert trace.slope == pytest.approx(0.4)
    assert trace.slope_error == pytest.approx(0, abs=1e-6)
    assert trace.error == pytest.approx(80 * 16**-0.4)
    drop = trace.drop(0.8, 0.0)
    assert drop.points == pytest.approx(80 * 16**-0.4 * (0.8**-0.4 - 1))
    assert trace.images(drop.points) == pytest.approx(0.8)


def test_the_interval_of_a_forecast_is_that_of_its_images():
    drop = TRACE.drop(0.8, 0.01)
    assert drop.high - drop.points == pytest.approx(
        1.959964 * (TRACE.drop(0.799, 0).points - drop.points) * 10, rel=0.01
    )


def test_what_is_worth_less_than_nothing_has_a_forecast_all_the_same():
    assert TRACE.drop(-0.2, 0.05).points == TRACE.drop(0.01, 0.05).points > 100


def test_where_more_images_bring_nothing_there_is_no_forecast():
    assert forecast.trace(forks(lambda steps: 50.0 + steps / 100), (400, 40.0), 1) is None
    assert forecast.trace([], (400, 50.0), 1) is None


def test_the_front_falls_from_exact_to_the_fastest_and_each_is_held_against_fewer_images():
    found = front.front(MEASURED, PHASES, TRACE)
    ranked = sorted(found, key=lambda each: each.plan.time)
    images = [each.plan.images for each in ranked]
    assert ranked[-1].plan.time == 1
    assert images == sorted(images)
    fast = ranked[0]
    assert front.verdict(fast, TRACE).startswith("better than exact training on")
    worse = Measured(LOW, 0.9, (0.5, 0.5), (0.02, 0.02))
    plan = cheapest([worse], PHASES, 0.95)
    assert plan
    assert front.verdict(front.predicted(plan, TRACE), TRACE).startswith("worse than exact training on")


def test_where_nothing_saves_time_the_front_is_exact_training():
    slow = [each._replace(time=1.1) for each in MEASURED]
    assert [each.plan for each in front.front(slow, PHASES, TRACE)] == [choice.Plan(PHASES, ())]
    assert fastest(slow, PHASES, 0.5).time == 1


def test_exact_forks_that_gain_nothing_are_told(layers):
    option = options_of(layers, ["pooled"])[0]
    flat = [replace(fork, losses=[float(fork.end)] * 2) for fork in forks(lambda steps: 50.0)]
    with pytest.raises(ConfigError, match="After epoch 1, exact forks of more images had no lower loss"):
        choice.measured([option], [*flat, replace(flat[2], arm=option.arm.name)], TIMES)
