"""The largest possible speed-up of the paper's schedules, and the arithmetic behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from approxtrain import models
from approxtrain.models.description import ConvLayer
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.cost import cost, layer_flops, phase_costs
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.pooled import Pooled


@pytest.mark.parametrize(
    ("model", "name", "percent"),
    [
        ("resnet20", "schedule1", 8.8),
        ("resnet20", "schedule2", 7.8),
        ("resnet20", "schedule3", 8.4),
        ("vgg19", "schedule1", 10.3),
        ("cnn2", "alternate", 14.8),
    ],
)
def test_the_largest_possible_speed_ups_of_the_paper(model, name, percent):
    layers = models.get(model).layers
    (bound,) = phase_costs(Schedule.named(name, layers), layers, 128)
    assert round(100 * bound.largest_speed_up, 1) == percent


def test_the_figures_of_the_2_layer_cnn_by_hand():
    # conv1: 32·32·64·3·25 multiply-adds, twice (no dgrad); conv2: 16·16·64·64·25, three times.
    layers = models.get("cnn2").layers
    first, second = 2 * 32 * 32 * 64 * 3 * 25, 2 * 16 * 16 * 64 * 64 * 25
    found = cost(Schedule.named("alternate", layers, "zero"), layers, 128, 0, 10)
    assert layer_flops(layers, 128) == [128 * 2 * first, 128 * 3 * second]
    assert found.dense == 10 * 128 * (2 * first + 3 * second)
    assert found.wgrad == 10 * 128 * (first + second)
    assert found.replaced == 5 * 128 * second
    assert found.spent == 0
    assert found.speed_up_with_methods == found.largest_speed_up


def test_the_methods_own_flops_are_counted_at_the_batch_size():
    layers = models.get("cnn2").layers
    found = cost(Schedule.named("alternate", layers, "approx", k=2), layers, 128, 0, 2)
    assert found.spent == 128 * make("approx", k=2).flops(layers[1].shape) > 0
    assert found.speed_up_with_methods < found.largest_speed_up


def test_full_saves_nothing():
    layers = models.get("resnet20").layers
    (found,) = phase_costs(Schedule.named("full", layers), layers, 128)
    assert (found.wgrad_share_saved, found.largest_speed_up, found.speed_up_with_methods) == (0, 0, 0)


def test_a_run_is_the_average_of_its_phases_weighted_by_their_steps():
    layers = models.get("resnet20").layers
    config = ScheduleConfig(name="schedule3", method="zero", until_epoch=3)
    made = Schedule.from_config(config, layers, 100)
    early, late = phase_costs(made, layers, 128)
    run = cost(made, layers, 128, 0, 400)
    assert late.largest_speed_up == 0
    assert run.largest_speed_up == pytest.approx(3 / 4 * early.largest_speed_up)


def prefixed(model: str, letters: str) -> tuple[Schedule, tuple[ConvLayer, ...]]:
    """One column for ever, one letter a layer, with its frozen prefix."""
    names = {"F": "full", "Z": "zero", "S": "skip", "A": "approx", "P": "pooled"}
    config = ScheduleConfig(grid=tuple((names[letter],) for letter in letters), frozen_prefix=letters[0] in "ZS")
    layers = models.get(model).layers
    return Schedule.from_config(config, layers, 100), layers


@pytest.mark.parametrize(
    ("letters", "saved"), [("ZFFFF", [2]), ("ZSZFF", [2, 3, 4]), ("SSSSS", [2, 3, 4, 5]), ("ZFZZZ", [2])]
)
def test_a_frozen_prefix_saves_the_dgrads_from_the_second_layer_to_the_one_above_it(letters, saved):
    made, layers = prefixed("cnn5", letters)
    found = cost(made, layers, 128, 0, 3)
    assert found.dgrad_saved == 3 * 128 * sum(layers[number - 1].shape.flops for number in saved)
    assert found.dgrad_share_saved == found.dgrad_saved / found.dense
    assert found.largest_speed_up == found.speed_up_with_methods == (found.replaced + found.dgrad_saved) / found.dense


def test_with_all_layers_in_the_prefix_only_the_forward_pass_is_left():
    made, layers = prefixed("resnet20", "Z" * 19)
    found = cost(made, layers, 128, 0, 1)
    forward = 128 * sum(layer.shape.flops for layer in layers)
    assert found.dense - found.replaced - found.dgrad_saved == forward


def test_only_the_steps_that_have_a_prefix_save_by_it():
    config = ScheduleConfig(name="schedule3", method="skip", until_epoch=1, frozen_prefix=True)
    layers = models.get("cnn5").layers
    made = Schedule.from_config(config, layers, 100)
    always = cost(*prefixed("cnn5", "SSSSS"), 128, 0, 1)
    assert cost(made, layers, 128, 0, 400).dgrad_saved == pytest.approx(25 * always.dgrad_saved)
    assert cost(made, layers, 128, 1, 4).dgrad_saved == 0


def test_without_the_flag_a_prefix_saves_no_dgrad():
    layers = models.get("cnn5").layers
    assert cost(Schedule.named("schedule3", layers, "zero"), layers, 128, 0, 4).dgrad_saved == 0


class Coarse(Pooled):
    """Pools for its dgrad as well."""

    exact_dgrad = False

    def dgrad_flops(self, shape):
        return shape.flops / 4


@pytest.mark.parametrize(
    ("letters", "saved", "replaced"), [("CCFFF", [], [2]), ("ZCCFF", [2], [3]), ("ZZFCC", [2, 3], [4, 5])]
)
def test_a_dgrad_is_replaced_once_and_only_where_it_is_computed(letters, saved, replaced):
    made, layers = prefixed("cnn5", letters.replace("C", "P"))
    cells = tuple(Coarse() if cell.name == "pooled" else cell for cell in made.cells)
    found = cost(replace(made, cells=cells, frozen_prefix=bool(saved)), layers, 128, 0, 3)
    plain = cost(replace(made, frozen_prefix=bool(saved)), layers, 128, 0, 3)
    flops = [3 * 128 * layer.shape.flops for layer in layers]
    assert found.dgrad_saved == plain.dgrad_saved == sum(flops[number - 1] for number in saved)
    assert found.dgrad_replaced == sum(flops[number - 1] for number in replaced)
    assert found.spent - plain.spent == pytest.approx(found.dgrad_replaced / 4)
    assert found.largest_speed_up == (plain.replaced + found.dgrad_saved + found.dgrad_replaced) / plain.dense


def test_a_cost_over_no_step_or_of_another_model_is_refused():
    layers = models.get("cnn2").layers
    with pytest.raises(ValueError, match="no step"):
        cost(Schedule.named("full", layers), layers, 128, 5, 5)
    with pytest.raises(ValueError, match="not those"):
        cost(Schedule.named("full", layers), models.get("cnn5").layers, 128, 0, 1)
