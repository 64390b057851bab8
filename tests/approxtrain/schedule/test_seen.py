"""What steps see of their images: of which size, and how many; what that saves, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approxtrain import models
from approxtrain.config import load
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.cost import cost, layer_flops
from approxtrain.schedule.seen import Seen
from approxtrain.schedule.summary import Summary

RESNET = models.get("resnet20")
RISING = [{"size": 16, "epochs": {"to": "20%"}}, {"size": 24, "epochs": {"from": "20%", "to": "60%"}}]
EVERY_THIRD = [{"method": "zero", "layers": [2], "steps": {"every": 3}}]


def schedule(section: dict, steps_per_epoch: int = 10, epochs: int = 10) -> Schedule:
    return Schedule.from_config(ScheduleConfig.model_validate(section), RESNET.layers, steps_per_epoch, epochs)


def size_at(found: Schedule, step: int) -> int | None:
    return found.column_seen[found.index(step)].size


def test_each_part_of_the_run_has_its_size_and_the_rest_that_of_the_data():
    found = schedule({"image_sizes": RISING})
    assert [size_at(found, step) for step in (0, 19, 20, 59, 60, 1000)] == [16, 16, 24, 24, None, None]
    assert (len(found.columns), [seen.size for seen in found.column_seen]) == (3, [16, 24, None])


@given(st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True), st.integers(1, 7))
def test_the_methods_of_a_step_are_those_without_sizes(borders, every):
    rules = [{"method": "zero", "layers": [2], "steps": {"every": every}}]
    ends = [0, *sorted(borders)]
    sizes = [
        {"size": 8 + number, "epochs": {"from": begin + 1, "to": end}}
        for number, (begin, end) in enumerate(pairwise(ends))
    ]
    plain, sized = schedule({"rules": rules}, 1, 100), schedule({"rules": rules, "image_sizes": sizes}, 1, 100)
    for step in range(120):
        assert sized.column(step) == plain.column(step)
        part = sum(step >= end for end in ends[1:])
        assert size_at(sized, step) == (8 + part if part < len(sizes) else None)
    assert (sized.visits(3, 77) == plain.visits(3, 77)).all()


def test_the_same_methods_at_another_size_are_another_column():
    found = schedule({"rules": EVERY_THIRD, "image_sizes": RISING})
    assert len(found.columns) == 6
    assert found != schedule({"rules": EVERY_THIRD})
    assert found == schedule({"rules": EVERY_THIRD, "image_sizes": RISING})


def test_smaller_images_cost_less_by_the_square_of_their_size():
    found = schedule({"image_sizes": [{"size": 16}]})
    layers = RESNET.layers_at(16)
    whole = cost(found, RESNET.layers, 128, 0, 10, {16: layers})
    assert sum(layer_flops(layers, 128)) == sum(layer_flops(RESNET.layers, 128)) / 4
    assert whole.share_resized == whole.largest_speed_up == 0.75


def test_a_share_of_the_images_costs_that_share():
    found = schedule({"image_shares": [{"share": 0.25, "epochs": {"to": "50%"}}]})
    assert cost(found, RESNET.layers, 128, 0, 50).share_resized == 0.75
    assert cost(found, RESNET.layers, 128, 0, 100).largest_speed_up == 0.75 / 2
    assert found.images(128, 40, 60) == 10 * 32 + 10 * 128


def test_sizes_and_shares_may_end_at_different_steps():
    shares = [{"share": 0.5, "epochs": {"from": "10%", "to": "30%"}}]
    found = schedule({"image_sizes": RISING, "image_shares": shares})
    assert [found.column_seen[found.index(step)] for step in (0, 10, 19, 20, 29, 30, 59, 60)] == [
        Seen(16),
        *[Seen(16, 0.5)] * 2,
        *[Seen(24, 0.5)] * 2,
        *[Seen(24)] * 2,
        Seen(),
    ]
    assert found.column_seen[0].text == "images of 16×16"
    assert Seen(24, 0.5).text == "images of 24×24, 0.5 of each batch"


@given(st.integers(1, 8), st.integers(1, 12), st.data())
def test_devices_take_of_their_parts_what_one_takes_of_the_whole(devices, part, data):
    taken = data.draw(st.integers(1, part))
    share = taken / part
    whole = Seen(share=share).places(devices * part)
    assert whole == [device * part + place for device in range(devices) for place in Seen(share=share).places(part)]
    assert len(set(whole)) == len(whole) == devices * taken


def test_at_least_one_image_is_taken():
    assert Seen(share=0.01).places(8) == [0]


def test_a_share_that_devices_cannot_have_of_their_parts_is_refused():
    more = ["parallel.devices=4", "schedule={ image_shares = [{ share = 0.3 }] }"]
    with pytest.raises(ConfigError, match=r"of 32 images, its part of a batch, a device cannot take a share of 0\.3"):
        load("resnet20-full", more)
    assert load("resnet20-full", [*more, "train.batch_size=40"]).parallel.devices == 4


def test_the_summary_counts_what_is_replaced_at_the_size_that_it_has():
    section = ScheduleConfig.model_validate({"rules": EVERY_THIRD, "image_sizes": [{"size": 16, "epochs": {"to": 5}}]})
    made = Schedule.from_config(section, RESNET.layers, 3, 10)
    found = Summary(RESNET, section, made, 128, 3, 10)
    small, large = found.phases
    assert (small.seen.size, large.seen.size) == (16, None)
    assert small.cost.replaced == large.cost.replaced / 4
    assert found.run.resized == pytest.approx(0.75 * found.run.dense / 2)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([{"size": 16, "epochs": {"to": 3}}, {"size": 24, "epochs": {"from": 3}}], "begins at step 20, before"),
        ([{"size": 16}, {"size": 24, "epochs": {"from": 5}}], "`schedule.image_sizes.1`: it begins at step 40"),
        ([{"size": 16, "epochs": {"from": 5, "to": 4}}], "`schedule.image_sizes.0`: it covers no step"),
    ],
)
def test_parts_that_meet_or_are_empty_are_told(sizes, says):
    with pytest.raises(ConfigError, match=says):
        schedule({"image_sizes": sizes})


def test_what_is_wrong_with_rules_and_sizes_is_told_at_once():
    rules = [{"method": "zero", "layers": [99]}]
    with pytest.raises(ConfigError) as raised:
        schedule({"rules": rules, "image_sizes": [{"size": 16, "epochs": {"from": 5, "to": 4}}]})
    assert len(raised.value.problems) == 2


def test_a_network_that_needs_one_size_is_told_in_words():
    flat = Model("linear", "", "tests.networks:Linear", image_shape=(8, 8, 3))
    with pytest.raises(ConfigError, match=r"cannot be called on an image of 4×4.*pools over all positions"):
        flat.layers_at(4)
