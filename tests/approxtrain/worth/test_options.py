"""What a schedule can be put together from, of a network's layers."""

from __future__ import annotations

import pytest

from approxtrain import models
from approxtrain.schedule import Schedule
from approxtrain.worth.options import Group, groups_of, looks_of, options_of
from approxtrain_kernels.methods.full import Full


@pytest.fixture(scope="module")
def layers():
    return models.get("resnet20").layers


def test_a_group_is_the_layers_of_one_output_size(layers):
    assert groups_of(layers) == [Group(1, 7), Group(8, 13), Group(14, 19)]


def test_options_are_each_method_in_each_group_and_each_prefix_but_the_whole_network(layers):
    assert [option.name for option in options_of(layers, ["pooled"])] == [
        "pooled, layers 2 to 7",
        "pooled, layers 8 to 13",
        "pooled, layers 14 to 19",
        "frozen prefix, layers 1 to 7, every 2nd step",
        "frozen prefix, layers 1 to 13, every 2nd step",
    ]


def test_an_option_is_measured_as_the_schedule_that_it_names(layers):
    option = options_of(layers, ["pooled"])[3]
    schedule = Schedule.from_config(option.arm.schedule, layers, 100, 10)
    assert schedule.frozen_prefix
    assert [{method.name for method in schedule.column(step)[:7]} for step in range(3)] == [
        {"full"},
        {"skip"},
        {"full"},
    ]
    assert all(method == Full() for step in range(3) for method in schedule.column(step)[7:])


def test_looks_are_those_that_the_network_takes():
    assert [look.name for look in looks_of(models.get("resnet20"))] == [
        "images of 24×24",
        "images of 16×16",
        "0.5 of each batch",
    ]
    assert [look.name for look in looks_of(models.get("cnn2"))] == ["0.5 of each batch"]
