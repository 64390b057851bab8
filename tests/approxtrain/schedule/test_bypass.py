"""Blocks that are left out at first, in a schedule: which a step has, what that saves, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.cost import cost, layer_flops
from approxtrain.schedule.load import load

RESNET = models.get("resnet20")
LAYERS = [6, 7, 12, 13, 18, 19]
"""Those of the third block of each stage; the stem is 1."""
BYPASS = [{"path": "stage?/2", "to": "50%"}]


def schedule(bypass: list[dict[str, Any]] = BYPASS, epochs: int = 10, replicas: int = 1, **section: Any) -> Schedule:
    config = ScheduleConfig.model_validate({"bypass": bypass, **section})
    return Schedule.from_config(config, RESNET.layers, 10, epochs, replicas)


def absent(found: Schedule, step: int) -> tuple[str, ...]:
    return found.column_absent[found.index(step)]


def skipped(found: Schedule, step: int) -> list[int]:
    return [number for number, method in enumerate(found.column(step), start=1) if method.name == "skip"]


def test_blocks_are_left_out_up_to_their_step_and_their_layers_are_skipped():
    found = schedule([*BYPASS, {"path": "stage1/1", "to": 2}, {"path": "stage1/2", "to": 1}])
    thirds = ("stage1/2", "stage2/2", "stage3/2")
    assert absent(found, 0) == absent(found, 19) == ("stage1/1", *thirds)
    assert absent(found, 20) == absent(found, 49) == thirds  # of two tables for one block the later end counts
    assert absent(found, 50) == absent(found, 10_000) == ()
    assert skipped(found, 20) == LAYERS
    assert skipped(found, 0) == sorted([4, 5, *LAYERS])
    assert skipped(found, 50) == []
    assert len(found.columns) == 3


def test_other_layers_keep_the_methods_that_they_have_without():
    rules = [{"method": "zero", "layers": [2, 6], "steps": {"start": 1, "every": 3}}]
    found, plain = schedule(rules=rules), schedule([], rules=rules)
    for step in range(100):
        ours, theirs = found.column(step), plain.column(step)
        others = [number for number in range(19) if number + 1 not in LAYERS or step >= 50]
        assert [ours[number] for number in others] == [theirs[number] for number in others]


def test_it_goes_with_sizes_of_images_and_with_replicas():
    sizes = [{"size": 16, "epochs": {"to": "20%"}}]
    rules = [{"method": "zero", "layers": [2], "replicas": {"stop": 1, "rotate": 1}}]
    found = schedule(image_sizes=sizes, rules=rules, replicas=4)
    seen = [(found.column_seen[n].size, absent(found, s)) for s in (0, 19, 20, 49, 50) for n in [found.index(s)]]
    thirds = ("stage1/2", "stage2/2", "stage3/2")
    assert seen == [(16, thirds), (16, thirds), (None, thirds), (None, thirds), (None, ())]
    assert skipped(found.of_replica(2), 30) == LAYERS


def test_a_plateau_and_a_last_epoch_of_the_methods_do_not_end_it():
    rules = [{"method": "zero", "layers": [2]}]
    for found in (schedule(rules=rules).exact_from(15), schedule(rules=rules, until_epoch=2)):
        assert [len(absent(found, step)) for step in (0, 14, 15, 49, 50, 99)] == [3, 3, 3, 3, 0, 0]
        assert skipped(found, 49) == LAYERS
        assert skipped(found, 50) == []
        assert {method.name for method in found.column(49)} == {"skip", "full"}


def test_the_exact_baseline_may_ask_for_a_frozen_prefix_all_the_same():
    assert not schedule(name="schedule3", method="full", frozen_prefix=True).frozen_prefix


def test_what_is_left_out_costs_nothing():
    found = schedule()
    flops = layer_flops(RESNET.layers, 128)
    of_blocks = sum(flops[number - 1] for number in LAYERS) / sum(flops)
    half, rest = cost(found, RESNET.layers, 128, 0, 50), cost(found, RESNET.layers, 128, 50, 100)
    assert half.share_left_out == half.largest_speed_up == half.speed_up_with_methods == pytest.approx(of_blocks)
    assert rest.saved == 0
    assert load(found, RESNET.layers, 128, 50).slowest == pytest.approx(1 - of_blocks)


def test_it_is_a_part_of_what_a_schedule_is():
    assert schedule() == schedule()
    assert schedule() != schedule([])
    assert hash(schedule()) != hash(schedule([{"path": "stage1/2", "to": "50%"}]))
    assert ScheduleConfig.model_validate({"bypass": BYPASS}).title == "full, without stage?/2 to 50% of the run"


def test_what_makes_no_sense_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        schedule([{"path": "stage9/*", "to": 1}, {"path": "stage1/2", "to": "0%"}])
    unknown, nothing = error.value.problems
    assert unknown.startswith("`schedule.bypass.0.path`: 'stage9/*' matches no module")
    assert "stage1/0" in unknown
    assert nothing == "`schedule.bypass.1.to` (='0%'): it covers no step."


@pytest.mark.parametrize("step", [0, 30, 49, 50])
def test_the_program_finds_the_column_of_a_step(step):
    found = schedule()
    table = found.index_table
    phase = int(np.searchsorted(table.starts, step, side="right")) - 1
    entry = table.offsets[phase] + (step - table.starts[phase]) % table.periods[phase]
    assert table.table[entry] == found.index(step)
