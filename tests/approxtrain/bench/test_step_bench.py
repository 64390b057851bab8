"""The contenders of `bench-step` take the steps that they say they take, and the plain network takes the same one."""

from __future__ import annotations

import pytest

from approxtrain import models
from approxtrain.bench.plain import plain
from approxtrain.bench.step_bench import StepBench, StepContender, StepTimes
from approxtrain.bench.step_parts import LayerConvolution, saved
from approxtrain.bench.step_report import bound
from approxtrain.bench.timing import Times
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig


def test_the_plain_network_and_ours_compute_the_same_step(small, configure):
    bench = StepBench(configure({"name": "full"}))
    losses = []
    for setting in ({}, {"follow": plain}):
        dispatch, state, order = bench.dispatch(bench.full, **setting)
        losses.append(float(dispatch(0, state, bench.images, order)[1].loss[0]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_steps_on_streamed_images_are_not_timed(configure):
    config = configure({"name": "full"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"stream": True})})
    with pytest.raises(ConfigError, match=r"images in memory: data\.limit=N"):
        StepBench(config)


def test_a_bound_leaves_out_the_dgrads_below_and_above_a_frozen_prefix(pocket):
    """Layers 1 and 2 zero, layer 3 exact, at one step of two; every convolution takes a second."""
    table = [["zero", "full"], ["zero", "full"], ["full", "full"]]
    numbers = (1, 2, 3)
    parts = [
        LayerConvolution(kind, pocket.layers[number - 1].shape, (number,), lambda: None, 1)
        for kind in ("forward", "dgrad", "wgrad")
        for number in numbers
        if kind != "dgrad" or number > 1
    ]
    times = {part.name: Times((1.0, 2.0)) for part in parts}
    for frozen, seconds in ((False, 2.0), (True, 4.0)):  # two wgrads; the dgrads of layers 2 and 3 besides
        config = ScheduleConfig(grid=tuple(map(tuple, table)), frozen_prefix=frozen)
        schedule = Schedule.from_config(config, pocket.layers, 1)
        assert saved(parts, schedule, 2, times).tolist() == [seconds / 2, seconds]


@pytest.mark.parametrize(
    ("section", "has_bound"),
    [
        ({"rules": [{"method": "zero"}]}, True),
        ({"image_sizes": [{"size": 16}]}, False),
        ({"bypass": [{"path": "stage1/1", "to": 1}]}, False),
    ],
    ids=str,
)
def test_there_is_no_bound_where_all_of_a_step_is_cheaper(section, has_bound):
    layers = models.get("resnet14").layers
    schedule = Schedule.from_config(ScheduleConfig.model_validate(section), layers, 1)
    kinds = ("forward", "dgrad", "wgrad")
    parts = [LayerConvolution(kind, each.shape, (each.number,), lambda: None, 1) for kind in kinds for each in layers]
    times = {name: Times((1.0, 1.1)) for name in ("full", "it", *(part.name for part in parts))}
    contenders = {"it": StepContender(lambda: None)}
    found = bound(StepTimes(times, contenders, {"it": schedule}, parts, {}), "it")
    assert ("share_of_bound" in found) is has_bound
    assert "speed_up" in found
