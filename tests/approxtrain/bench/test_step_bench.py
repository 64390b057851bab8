"""The contenders of `bench-step` take the steps that they say they take, and the plain network takes the same one."""

from __future__ import annotations

import pytest

from approxtrain.bench.plain import plain
from approxtrain.bench.step_bench import StepBench
from approxtrain.errors import ConfigError


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
