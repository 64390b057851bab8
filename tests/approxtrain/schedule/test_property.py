"""`Schedule` against a direct evaluation of the rules, written without phases, periods or masks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from math import lcm
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain_kernels.methods import make

LAYERS = models.get("cnn5").layers
STEPS_PER_EPOCH = 5


def naive_column(rules: list[dict[str, Any]], step: int, until_epoch: int | None):
    """The paper's definition, cell by cell: the matching rule of the highest order, else full."""
    return tuple(naive_cell(rules, layer, step, until_epoch) for layer in LAYERS)


def naive_cell(rules, layer, step, until_epoch):
    epoch = step // STEPS_PER_EPOCH + 1
    best = (-1, make("full"))
    for rule in rules:
        if covers(rule, layer, step, epoch) and rule["order"] > best[0]:
            best = (rule["order"], make(rule["method"], **rule["params"]))
    return make("full") if until_epoch is not None and epoch > until_epoch else best[1]


def covers(rule, layer, step, epoch):
    layers, steps, epochs = rule.get("layers"), rule.get("steps", {}), rule.get("epochs", {})
    if isinstance(layers, list) and layer.number not in layers:
        return False
    if isinstance(layers, dict):
        beyond = layer.number - layers["start"]
        if beyond < 0 or beyond % layers["every"] or layer.number > layers["stop"]:
            return False
    if rule.get("stride", layer.stride) != layer.stride or not fnmatchcase(layer.path, rule.get("path", "*")):
        return False
    since = step - steps.get("start", 0)
    if since < 0 or since % steps.get("every", 1) or step >= steps.get("stop", step + 1):
        return False
    return epochs.get("from", 1) <= epoch <= epochs.get("to", epoch)


numbers = st.lists(st.integers(1, 5), min_size=1, max_size=3)
ranges = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)).map(
    lambda t: {"start": min(t[:2]), "stop": max(t[:2]), "every": t[2]}
)
steps = st.fixed_dictionaries(
    {}, optional={"start": st.integers(0, 12), "stop": st.integers(13, 40), "every": st.integers(1, 6)}
)
epochs = st.fixed_dictionaries({}, optional={"from": st.integers(1, 3), "to": st.integers(3, 6)})
methods = st.sampled_from(
    [("full", {}), ("zero", {}), ("random", {}), ("skip", {}), ("approx", {}), ("approx", {"k": 4})]
)
rule = st.fixed_dictionaries(
    {"cell": methods},
    optional={
        "layers": numbers | ranges,
        "stride": st.just(2),
        "path": st.sampled_from(["conv*", "conv[234]"]),
        "steps": steps,
        "epochs": epochs,
    },
)


@st.composite
def rule_lists(draw):
    """Rules of different orders, so that they never disagree."""
    rules = draw(st.lists(rule, min_size=1, max_size=4))
    orders = draw(st.permutations(range(len(rules))))
    for entry, order in zip(rules, orders, strict=True):
        method, params = entry.pop("cell")
        entry.update(method=method, params=params, order=order)
    return rules


@settings(max_examples=200, deadline=None)
@given(rules=rule_lists(), until_epoch=st.none() | st.integers(1, 7), far=st.integers(60, 10**6))
def test_every_column_is_what_the_rules_say(rules, until_epoch, far):
    section = {"rules": rules, "max_columns": 1000} | ({"until_epoch": until_epoch} if until_epoch else {})
    config = ScheduleConfig.model_validate(section)
    try:
        schedule = Schedule.from_config(config, LAYERS, STEPS_PER_EPOCH)
    except ConfigError:
        assume(False)  # a rule that selects no layer or no step
        raise
    period = lcm(*(r.get("steps", {}).get("every", 1) for r in rules))
    looked_at = [*range(2 * period + 60), far]
    starts, periods, offsets, table, *_ = schedule.index_table
    assert all(part.dtype == np.int32 for part in schedule.index_table[:-1])
    for step in looked_at:
        assert schedule.column(step) == naive_column(rules, step, until_epoch)
        phase = np.flatnonzero(starts <= step)[-1]
        assert table[offsets[phase] + (step - starts[phase]) % periods[phase]] == schedule.index(step)
    first_use = list(dict.fromkeys(schedule.column(step) for step in looked_at))
    assert list(schedule.columns) == first_use


@settings(max_examples=60, deadline=None)
@given(rules=rule_lists(), first=st.integers(0, 50), count=st.integers(0, 80))
def test_visits_count_columns_and_the_cells_that_they_have(rules, first, count):
    try:
        schedule = Schedule.from_config(ScheduleConfig.model_validate({"rules": rules}), LAYERS, STEPS_PER_EPOCH)
    except ConfigError:
        assume(False)
        raise
    expected = np.zeros((len(LAYERS), len(schedule.cells)), np.int64)
    columns = np.zeros(len(schedule.columns), np.int64)
    for step in range(first, first + count):
        columns[schedule.index(step)] += 1
        for layer, method in enumerate(schedule.column(step)):
            expected[layer, schedule.cells.index(method)] += 1
    np.testing.assert_array_equal(schedule.visits(first, first + count), expected)
    np.testing.assert_array_equal(schedule.column_visits(first, first + count), columns)
