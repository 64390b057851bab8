"""Schedules: which cells the paper's have, how rules become phases, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from math import lcm

import numpy as np
import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig, named
from approxtrain_kernels.methods import make

RESNET20, VGG19, CNN5, CNN2 = (models.get(name).layers for name in ("resnet20", "vgg19", "cnn5", "cnn2"))
FULL, ZERO, APPROX = make("full"), make("zero"), make("approx")


def build(layers=CNN5, steps_per_epoch=10, **section) -> Schedule:
    return Schedule.from_config(ScheduleConfig.model_validate(section), layers, steps_per_epoch)


def rules(*entries, layers=CNN5, **section) -> Schedule:
    return build(layers, rules=[{"method": "zero", **entry} for entry in entries], **section)


def problems(*entries, layers=CNN5, **section) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        rules(*entries, layers=layers, **section)
    return raised.value.problems


def replaced(made: Schedule, step: int) -> list[int]:
    return [number for number, method in enumerate(made.column(step), start=1) if method != FULL]


# The paper's schedules


@pytest.mark.parametrize(("layers", "picked"), [(RESNET20, [2, 6, 10, 14, 18]), (VGG19, [2, 6, 10, 14])])
def test_schedule1_is_every_4th_layer_from_the_2nd_at_every_step(layers, picked):
    made = Schedule.named("schedule1", layers, "zero")
    assert [replaced(made, step) for step in (0, 1, 12345)] == [picked] * 3
    assert len(made.columns) == 1


def test_schedule2_is_every_other_layer_from_the_2nd_at_every_other_step():
    made = Schedule.named("schedule2", RESNET20)
    assert [replaced(made, step) for step in range(4)] == [list(range(2, 20, 2)), []] * 2


def test_schedule3_is_all_layers_at_every_4th_step():
    made = Schedule.named("schedule3", RESNET20, "random")
    assert [len(replaced(made, step)) for step in range(9)] == [19, 0, 0, 0, 19, 0, 0, 0, 19]


def test_the_alternation_is_the_2nd_layer_at_every_other_step():
    assert [replaced(Schedule.named("alternate", CNN2), step) for step in range(4)] == [[2], [], [2], []]


def test_figure3_is_the_table_of_the_paper():
    paper = [
        "full zero random zero",
        "full full random full",
        "approx full random full",
        "approx full full full",
        "approx zero full zero",
    ]
    made = Schedule.named("figure3", CNN5)
    columns = [[method.name for method in made.column(step)] for step in range(8)]
    assert columns == [list(column) for column in zip(*map(str.split, paper), strict=True)] * 2
    assert len(made.columns) == 3  # its 2nd and 4th column are the same


def test_the_named_form_and_the_builder_are_the_same_schedule():
    assert build(RESNET20, name="schedule2", params={"k": 4}) == Schedule.named("schedule2", RESNET20, "approx", k=4)
    assert build(RESNET20) == Schedule.named("full", RESNET20)


def test_a_named_schedule_is_the_rule_that_its_summary_describes():
    written = rules({"layers": {"start": 2, "every": 4}}, layers=RESNET20)
    assert written == Schedule.named("schedule1", RESNET20, "zero")


def test_the_catalogue_has_a_summary_of_every_schedule():
    assert list(named()) == ["full", "schedule1", "schedule2", "schedule3", "alternate", "figure3"]
    assert all(entry.summary for entry in named().values())
    assert [name for name, entry in named().items() if not entry.takes_method] == ["full", "figure3"]


# From rules to phases


def test_a_rule_is_inactive_before_its_start_and_then_counts_from_it():
    made = rules({"steps": {"start": 3, "every": 4}})
    assert [step for step in range(16) if replaced(made, step)] == [3, 7, 11, 15]


def test_every_counts_from_the_start_of_the_steps_where_epochs_begin_later():
    made = rules({"steps": {"start": 1, "every": 4}, "epochs": {"from": 2, "to": 2}})
    assert [step for step in range(40) if replaced(made, step)] == [13, 17]


def test_until_epoch_makes_everything_exact_afterwards():
    for made in (
        build(name="schedule3", method="zero", until_epoch=2),
        build(grid=[["zero", "full", "full", "full"]] * 5, until_epoch=2),
        rules({"steps": {"every": 4}}, until_epoch=2),
    ):
        assert [step for step in range(60) if replaced(made, step)] == [0, 4, 8, 12, 16]
        assert [(first, mask.shape[1]) for first, mask in made.phases] == [(0, 4), (20, 1)]


def test_phases_that_say_the_same_are_merged():
    made = rules({"steps": {"stop": 10, "every": 2}}, {"steps": {"start": 10, "every": 2}})
    assert [(first, mask.shape) for first, mask in made.phases] == [(0, (5, 2))]


def test_periods_are_reduced_to_the_smallest():
    twice = [{"steps": {"start": start, "every": 6}} for start in (0, 3)]
    assert rules(*twice).phases[0][1].shape[1] == 3
    assert build(grid=[["zero", "full"] * 4] * 5) == build(grid=[["zero", "full"]] * 5)


def test_a_phase_too_short_to_show_its_period_twice_does_not_repeat():
    entries = [{"layers": [2], "steps": {"every": 40}}, {"layers": [3], "steps": {"start": 7, "every": 3}}]
    made = rules(*entries, until_epoch=10)
    assert [(first, mask.shape[1]) for first, mask in made.phases] == [(0, 7), (7, 93), (100, 1)]


def test_the_higher_order_wins_wherever_the_rules_stand():
    entries = [{"order": 1}, {"method": "approx", "layers": [2]}]
    assert rules(*entries) == rules(*entries[::-1]) == rules({})


def test_two_rules_that_agree_need_no_order():
    assert rules({"layers": [1, 2]}, {"layers": [2, 3]}) == rules({"layers": [1, 2, 3]})


def test_its_methods_are_only_those_in_use_and_begin_with_full():
    made = rules({"method": "random"}, {"order": 1}, {"order": 2, "method": "approx", "params": {"k": 4}, "stride": 2})
    assert made.cells == (FULL, ZERO, make("approx", k=4))


def test_stride_and_path_select_layers_together():
    made = rules({"stride": 2, "path": "stage3/*"}, layers=RESNET20)
    assert replaced(made, 0) == [14]


def test_cells_of_a_grid_may_hide_behind_names():
    made = build(grid=[["a4", "zero"]] * 5, cells={"a4": {"method": "approx", "params": {"k": 4}}})
    assert made.cells == (FULL, make("approx", k=4), ZERO)


# What is refused


def test_a_rule_that_matches_nothing_is_an_error_that_names_the_layers():
    (path,) = problems({"path": "stage9/*"}, layers=RESNET20)
    assert path.startswith("`schedule.rules.0.path`: 'stage9/*' matches no layer")
    assert "1 stem/conv, 2-7 stage1/0/conv1 to stage1/2/conv2" in path
    (stride,) = problems({"stride": 3})
    assert stride.startswith("`schedule.rules.0.stride`: no layer has stride 3. ")
    assert stride.endswith("The layers have stride 1: 1, 3, 5; stride 2: 2, 4.")
    (both,) = problems({"stride": 2, "path": "features/[024]/*"})
    assert "no layer meets all" in both
    assert "stride 2: 2, 4" in both
    assert "1-5 features/0/conv" in both
    (turned,) = problems({"layers": {"start": 3, "stop": 2}})
    assert "no layer meets all" in turned


def test_a_layer_out_of_range_is_an_error_that_names_the_layers():
    for layers in ([2, 6], {"start": 6}, {"stop": 6}):
        (problem,) = problems({"layers": layers})
        assert problem.startswith("`schedule.rules.0.layers`: there is no layer 6. The model has 5 layers: 1-5 ")


def test_a_rule_that_covers_no_step_is_an_error_that_shows_why():
    (problem,) = problems({"steps": {"start": 5, "stop": 10, "every": 2}, "epochs": {"from": 3}})
    assert problem.startswith(
        "`schedule.rules.0`: it covers no step: by its `steps` and `epochs` the first would be 21"
    )
    assert "all lie below 10 (steps count from 0, an epoch has 10)" in problem
    (late,) = problems({"epochs": {"from": 3}}, until_epoch=2)
    assert "the first would be 20, and by these or `until_epoch` all lie below 20" in late
    (turned,) = problems({"epochs": {"from": 3, "to": 2}})
    assert "the first would be 20, and by these or `until_epoch` all lie below 20" in turned
    (empty,) = problems({"steps": {"start": 3, "stop": 3}})
    assert "the first would be 3, and by these or `until_epoch` all lie below 3" in empty


def test_two_rules_that_disagree_without_an_order_are_an_error_with_layer_and_step():
    entries = {"steps": {"start": 1, "every": 4}}, {"steps": {"every": 7}, "method": "approx", "layers": [3]}
    (problem,) = problems(*entries)
    assert "`schedule.rules.1`: it disagrees with `schedule.rules.0`: zero there, approx here" in problem
    assert "layer 3 features/2/conv at step 21." in problem


def test_rules_that_never_meet_do_not_disagree():
    made = rules({"steps": {"every": 4}}, {"steps": {"start": 2, "every": 4}, "method": "approx"})
    assert len(made.columns) == 3
    rules({"steps": {"stop": 4}}, {"steps": {"start": 4}, "method": "approx"})


def test_all_problems_are_reported_at_once():
    found = problems({"layers": [9]}, {"path": "x"}, {"stride": 3}, {}, {"method": "approx"})
    assert [problem.split(":")[0] for problem in found] == [
        "`schedule.rules.0.layers`",
        "`schedule.rules.1.path`",
        "`schedule.rules.2.stride`",
        "`schedule.rules.4`",
    ]


def test_a_grid_with_the_wrong_number_of_rows_is_an_error():
    with pytest.raises(ConfigError, match=r"`schedule.grid`: it has 1 rows, .* 2 layers: 1 conv1, 2 conv2"):
        build(CNN2, grid=[["zero"]])
    with pytest.raises(ConfigError, match=r"`schedule.name`: 'figure3' is a grid of 5 rows"):
        build(CNN2, name="figure3")


def test_too_many_columns_are_an_error_that_says_how_many_and_how_to_allow_them():
    entries = [{"layers": [n], "steps": {"every": every}} for n, every in enumerate((2, 3, 5), start=1)]
    (problem,) = problems(*entries, max_columns=7)
    assert "has 8 distinct columns" in problem
    assert "is compiled" in problem
    assert problem.endswith("allow it with schedule.max_columns=8.")
    assert len(rules(*entries, max_columns=8).columns) == 8


def test_a_period_that_explodes_is_an_error_that_states_it():
    entries = [{"layers": [n], "steps": {"every": every}} for n, every in enumerate((997, 991, 983), start=1)]
    (problem,) = problems(*entries)
    assert f"{lcm(997, 991, 983):,} steps" in problem
    bounded = [{**entry, "steps": {**entry["steps"], "stop": 2000}} for entry in entries]
    assert len(rules(*bounded).columns) == 5


def test_a_batch_larger_than_the_training_set_is_an_error():
    with pytest.raises(ConfigError, match=r"train\.batch_size"):
        build(steps_per_epoch=0)


# The table


def test_schedules_are_compared_and_hashed_by_value():
    one, other = Schedule.named("schedule2", CNN5, "zero"), Schedule.named("schedule2", CNN5, "zero")
    assert one == other
    assert hash(one) == hash(other)
    assert one != Schedule.named("schedule2", CNN5)
    assert one != Schedule.named("schedule3", CNN5, "zero")
    assert Schedule.named("schedule3", CNN5, "zero") != build(name="schedule3", method="zero", frozen_prefix=True)


def test_masks_are_int8_and_cannot_be_changed():
    ((first, mask),) = Schedule.named("schedule2", CNN5).phases
    assert (first, mask.dtype) == (0, np.int8)
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="step"):
        Schedule.named("full", CNN5).index(-1)


@pytest.mark.parametrize(
    ("cells", "phases"),
    [
        ((ZERO,), ((0, np.zeros((1, 1), np.int8)),)),
        ((FULL,), ((1, np.zeros((1, 1), np.int8)),)),
        ((FULL,), ((0, np.zeros((1, 1), np.int8)), (0, np.zeros((1, 1), np.int8)))),
        ((FULL,), ((0, np.ones((1, 1), np.int8)),)),
        ((FULL,), ((0, np.zeros((2, 1), np.int8)),)),
        ((FULL,), ((0, np.zeros((1, 1), np.int32)),)),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(cells, phases):
    with pytest.raises(ValueError, match=r"`cells`|`phases`|mask"):
        Schedule(("conv1",), cells, phases)


def test_schedules_and_costs_import_neither_jax_nor_matplotlib():
    code = (
        "import sys; import approxtrain.schedule.picture; from approxtrain import Schedule, models;"
        "from approxtrain.schedule import cost; from approxtrain_kernels import conv_shape;"
        "layers = [models.ConvLayer(n, f'conv{n}', conv_shape((1, 8, 8, 4), 4, (3, 3))) for n in (1, 2)];"
        "made = Schedule.named('schedule1', layers);"
        "cost.phase_costs(made, layers, 128); made.index_table;"
        "print(sorted({'jax', 'flax', 'optax', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "[]"
