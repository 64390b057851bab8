"""Schedules whose replicas differ, against a direct evaluation of the rules for each replica."""

from __future__ import annotations

from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.load import load
from approxtrain.schedule.local import Sharing
from approxtrain_kernels.by_replica import ByReplica
from approxtrain_kernels.methods import make

LAYERS = models.get("cnn5").layers
BATCH, STEPS = 8, 5
"""Images of a batch, steps of an epoch."""


def naive(rules, layer, replica, replicas, step):
    """The matching rule of the highest order, else full."""
    found = [rule for rule in rules if covers(rule, layer, replica, replicas, step)]
    best = max(found, key=lambda rule: rule.get("order", 0), default={"method": "full"})
    return make(best["method"], **best.get("params", {}))


def covers(rule, layer, replica, replicas, step):
    steps, chosen = rule.get("steps", {}), rule.get("replicas", {})
    since = step - steps.get("start", 0)
    epochs = rule.get("epochs", {"from": 1, "to": 10**6})
    if not epochs["from"] <= step // STEPS + 1 <= epochs["to"]:
        return False
    if layer not in rule["layers"] or since < 0 or since % steps.get("every", 1) or step >= steps.get("stop", step + 1):
        return False
    moved = chosen.get("rotate", 0) * (since // steps.get("every", 1))
    numbers = range(chosen.get("start", 0), chosen.get("stop", replicas), chosen.get("every", 1))
    return replica in [(number + moved) % replicas for number in numbers]


def schedule_of(rules, replicas, **more):
    config = ScheduleConfig.model_validate({"rules": rules, "max_columns": 1000, **more})
    return Schedule.from_config(config, LAYERS, STEPS, None, replicas)


steps = st.fixed_dictionaries(
    {}, optional={"start": st.integers(0, 5), "stop": st.integers(6, 20), "every": st.integers(1, 3)}
)
epochs = st.integers(1, 3).flatmap(
    lambda first: st.fixed_dictionaries({"from": st.just(first), "to": st.integers(first, 4)})
)


@st.composite
def rules_of_replicas(draw):
    replicas = draw(st.integers(2, 5))
    chosen = st.fixed_dictionaries(
        {},
        optional={
            "start": st.integers(0, replicas - 2),
            "stop": st.integers(replicas - 1, replicas),
            "every": st.integers(1, 3),
            "rotate": st.integers(0, 4),
        },
    )
    rule = st.fixed_dictionaries(
        {
            "method": st.sampled_from(["full", "zero", "approx", "skip", "pooled"]),
            "layers": st.lists(st.integers(1, 5), min_size=1, max_size=3),
        },
        optional={"steps": steps, "replicas": chosen, "epochs": epochs},
    )
    rules = draw(st.lists(rule, min_size=1, max_size=4))
    return replicas, [rule if is_used(rule) else {key: rule[key] for key in rule.keys() - {"epochs"}} for rule in rules]


def is_used(rule):
    """Whether its steps and its epochs have one in common; else it is refused."""
    layer = rule["layers"][0]
    return any(covers(rule, layer, replica, 5, step) for step in range(STEPS * 5) for replica in range(5))


def own_method(schedule, layer, replica, step):
    """By its column and places, as a compiled program finds it."""
    method, place = schedule.column(step)[layer - 1], schedule.places(step)[layer - 1, replica % schedule.replicas]
    assert isinstance(method, ByReplica) or place == 0
    return method.members[place][0] if isinstance(method, ByReplica) else method


@settings(max_examples=150, deadline=None)
@given(asked=rules_of_replicas(), far=st.integers(60, 10**6))
def test_every_replica_runs_what_the_rules_say(asked, far):
    replicas, rules = asked
    rules = [rule | {"order": order} for order, rule in enumerate(rules)]
    schedule = schedule_of(rules, replicas)
    period = lcm(*(rule.get("steps", {}).get("every", 1) for rule in rules)) * replicas
    for step in [*range(2 * period + 20), far]:
        column, counts = schedule.column(step), {}
        for layer in range(1, 6):
            methods = [naive(rules, layer, replica, replicas, step) for replica in range(replicas)]
            assert [own_method(schedule, layer, replica, step) for replica in range(replicas)] == methods
            counts = {method: methods.count(method) for method in methods}
            method = column[layer - 1]
            assert (dict(method.members) if isinstance(method, ByReplica) else {method: replicas}) == counts
        for replica in range(replicas):
            alone = [naive(rules, layer, replica, replicas, step) for layer in range(1, 6)]
            assert schedule.of_replica(replica).column(step) == tuple(alone)


@settings(max_examples=150, deadline=None)
@given(asked=rules_of_replicas())
def test_rules_of_one_order_are_refused_where_they_disagree_for_one_replica(asked):
    replicas, rules = asked
    disagree = any(
        len({rule["method"] for rule in rules if covers(rule, layer, replica, replicas, step)}) > 1
        for layer in range(1, 6)
        for replica in range(replicas)
        for step in range(6 * replicas * 3 + 20)
    )
    if disagree:
        with pytest.raises(ConfigError, match="disagrees with"):
            schedule_of(rules, replicas)
    else:
        schedule_of(rules, replicas)


@settings(max_examples=60, deadline=None)
@given(asked=rules_of_replicas(), stop=st.integers(1, 40))
def test_load_is_the_sum_of_what_each_replica_computes(asked, stop):
    replicas, rules = asked
    rules = [rule | {"order": order} for order, rule in enumerate(rules)]
    found = load(schedule_of(rules, replicas), LAYERS, BATCH, stop)
    flops, sent = np.zeros((stop, replicas)), np.zeros(stop)
    for step in range(stop):
        for layer in LAYERS:
            methods = [naive(rules, layer.number, replica, replicas, step) for replica in range(replicas)]
            exact = BATCH * layer.shape.flops
            for replica, method in enumerate(methods):
                share = 1.0 if method.name == "full" else method.flops(layer.shape) / layer.shape.flops
                flops[step, replica] += exact * (1 + share + (layer.number > 1))
            sent[step] += 4 * np.prod(layer.shape.w_shape) * any(method.needs for method in methods)
    exact = sum(BATCH * layer.shape.flops * (2 if layer.number == 1 else 3) for layer in LAYERS)
    of_replica = np.broadcast_to(found.of_replica, replicas)
    np.testing.assert_allclose(of_replica, flops.mean(0) / exact, rtol=1e-9)
    np.testing.assert_allclose(found.slowest, flops.max(1).mean() / exact, rtol=1e-9)
    np.testing.assert_allclose(found.bytes_sent, sent.mean(), rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    every=st.integers(1, 7),
    begin=st.integers(1, 3),
    end=st.none() | st.integers(3, 5),
    stop=st.integers(1, 40),
)
def test_local_steps_send_the_weights_now_and_then(every, begin, end, stop):
    epochs = {"from": begin} | ({"to": end} if end else {})
    schedule = schedule_of(
        [{"method": "zero", "layers": [2], "steps": {"every": 2}}], 2, local=[{"every": every, "epochs": epochs}]
    )
    weights, sent = [4 * np.prod(layer.shape.w_shape) for layer in LAYERS], 0
    for step in range(stop):
        epoch, place = step // 5 + 1, step % 5 + 1
        if epoch < begin or epoch > (end or epoch):
            assert schedule.local.at(step) is Sharing.GRADIENTS
            sent += sum(weights) - weights[1] * (step % 2 == 0)
        elif place % every == 0 or place == 5:
            assert schedule.local.at(step) is Sharing.STATE
            sent += sum(weights)
        else:
            assert schedule.local.at(step) is Sharing.NOTHING
    np.testing.assert_allclose(load(schedule, LAYERS, BATCH, stop).bytes_sent, sent / stop)


@pytest.mark.parametrize(
    "local",
    [
        [],
        [{"every": 4}],
        [{"every": 1}],
        [{"every": 2, "epochs": {"to": 2}}],
        [{"every": 2, "epochs": {"from": 2}}],
        [{"every": 2, "epochs": {"to": 2}}, {"every": 3, "epochs": {"from": 3}}],
        [{"every": 2, "epochs": {"to": 2}}, {"every": 3, "epochs": {"from": 4}}],
    ],
)
def test_a_program_is_made_for_each_kind_of_step_that_there_is(local):
    found = schedule_of([{"method": "zero", "layers": [2]}], 2, local=local).local
    assert set(found.kinds) == {found.at(step) for step in range(6 * STEPS)}


def test_local_steps_end_with_the_mean_where_a_share_of_the_run_cuts_a_round():
    config = ScheduleConfig.model_validate({"local": [{"every": 4, "epochs": {"to": "25%"}}]})
    schedule = Schedule.from_config(config, LAYERS, 10, 3, 2)
    kinds = [schedule.local.at(step).value for step in range(9)]
    assert kinds == ["nothing"] * 3 + ["state"] + ["nothing"] * 3 + ["state"] + ["gradients"]
    cut = Schedule.from_config(config, LAYERS, 9, 3, 2)  # 25 % of 27 steps end after 7
    assert [cut.local.at(step).value for step in (5, 6, 7)] == ["nothing", "state", "gradients"]
    assert cut.local.outer_steps(27) == 2


def test_a_choice_that_rotates_is_one_column():
    rotated = schedule_of([{"method": "zero", "layers": [2, 4], "replicas": {"stop": 1, "rotate": 1}}], 4)
    assert len(rotated.columns) == 1
    assert len(rotated.index_table.places) == 4
    assert [rotated.places(step)[1].tolist() for step in range(3)] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


@settings(max_examples=50, deadline=None)
@given(asked=rules_of_replicas(), border=st.integers(0, 20))
def test_exact_from_a_step_on_it_is_as_before_until_then(asked, border):
    replicas, rules = asked
    rules = [rule | {"order": order} for order, rule in enumerate(rules)]
    schedule = schedule_of(rules, replicas, local=[{"every": 3}])
    exact = schedule.exact_from(border)
    assert exact.local == schedule.local
    for step in range(40):
        if step >= border:
            assert {method.name for method in exact.column(step)} == {"full"}
            continue
        assert exact.column(step) == schedule.column(step)
        for layer in range(1, 6):
            own = [own_method(each, layer, replica, step) for each in (exact, schedule) for replica in range(replicas)]
            assert own[:replicas] == own[replicas:]


def test_a_network_without_a_layer_sends_nothing():
    config = ScheduleConfig.model_validate({"name": "full"})
    assert load(Schedule.from_config(config, [], 5), [], BATCH, 10).slowest == 0


def test_replicas_that_all_run_the_same_are_not_told_apart():
    alike = schedule_of([{"method": "zero", "layers": [2], "replicas": {}}], 4)
    assert alike.replicas == 1
    assert alike == schedule_of([{"method": "zero", "layers": [2]}], 1)


def test_a_weight_that_some_replica_updates_catches_up_what_all_of_them_left_out():
    rules = [
        {"method": "skip", "layers": [2], "order": 0},
        {"method": "full", "layers": [2], "order": 1, "steps": {"every": 3}, "replicas": {"stop": 1}},
    ]
    schedule = schedule_of(rules, 2, catch_up=True)
    assert [schedule.column_factors[schedule.index(step)][1] for step in range(3)] == [3, 1, 1]


@pytest.mark.parametrize(
    ("chosen", "replicas", "why"),
    [
        (
            {"stop": 1},
            1,
            r"`schedule\.rules\.0\.replicas`: they are devices .* the run has one: .* parallel\.devices=4",
        ),
        ({"start": 4}, 4, r"4 is too many, for the run has 4 replicas, 0 to 3"),
        ({"stop": 5}, 4, r"5 is too many, for the run has 4 replicas"),
        ({"start": 2, "stop": 2}, 4, r"there is none from 2 on below 2"),
        ({"stop": 2}, 1025, r"go with 1,024 devices, and not 1,025"),
    ],
)
def test_replicas_that_are_not_there_are_refused(chosen, replicas, why):
    with pytest.raises(ConfigError, match=why):
        schedule_of([{"method": "zero", "layers": [2], "replicas": chosen}], replicas)


def test_more_than_can_be_tabulated_is_refused():
    rules = [{"method": "zero", "layers": [2], "steps": {"every": 20_011}, "replicas": {"stop": 1, "rotate": 1}}]
    with pytest.raises(ConfigError, match=r"every 80044 steps .* of the 25,000 that are tabulated"):
        schedule_of(rules, 4)
