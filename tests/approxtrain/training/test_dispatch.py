"""Which column is due, found on the device as on the host; and how many steps a call takes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain import models
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.training.dispatch import device_index

RULES = {
    "one phase": [{"method": "zero", "layers": [2], "steps": {"every": 3}}],
    "warm-up and an end": [
        {"method": "zero", "layers": [1], "steps": {"every": 2}, "epochs": {"from": 2, "to": 3}},
        {"method": "approx", "layers": [2], "steps": {"every": 5}, "epochs": {"from": 3}},
    ],
    "steps of their own": [
        {"method": "random", "layers": [2], "steps": {"start": 3, "every": 4}},
        {"method": "skip", "layers": [1], "epochs": {"from": 4}},
    ],
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_the_device_finds_the_column_that_the_host_finds_at_every_step_of_every_phase(rules):
    config = ScheduleConfig.model_validate({"rules": rules})
    schedule = Schedule.from_config(config, models.get("cnn2").layers, steps_per_epoch=7)
    steps = range(7 * 6)
    on_device = jax.jit(jax.vmap(partial(device_index, schedule)))(jnp.array(steps))
    on_host = [schedule.index(step) for step in steps]
    assert len(set(on_host)) > 1
    np.testing.assert_array_equal(on_device, on_host)


def test_chunks_begin_at_multiples_from_the_start_of_an_epoch_and_what_is_left_runs_singly(assemble, pocket):
    dispatch = assemble(pocket, {"name": "full"}, chunk=4).dispatch  # six steps an epoch
    assert [dispatch.span(step) for step in range(12)] == [4, 1, 1, 1, 1, 1] * 2
    dispatch.chunk = 2
    assert [dispatch.span(step) for step in (0, 2, 4, 6)] == [2] * 4
    dispatch.chunk = 7
    assert dispatch.span(0) == 1
