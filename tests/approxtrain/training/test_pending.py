"""Which time belongs to a step."""

import time

import jax.numpy as jnp
import pytest

from approxtrain.training.pending import PendingCalls
from approxtrain.training.step import StepMetrics


def test_the_steps_of_a_call_are_told_one_by_one_and_share_its_time(monkeypatch):
    clock, finished = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    pending = PendingCalls(lambda *told: finished.append(told), chunk=2)
    pending.add(4, 2, StepMetrics(jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1))), timed=True)
    clock[0] = 3.0
    pending.drain()
    assert finished == [(4, [1.0], 1.5, None), (5, [2.0], 1.5, None)]


def test_a_pause_waits_for_all_steps_and_its_time_is_no_steps(monkeypatch):
    clock, finished = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    pending = PendingCalls(lambda step, losses, seconds, flags: finished.append((step, seconds)))
    metrics = StepMetrics(jnp.float32(1.0), jnp.float32(0.0))
    pending.add(0, 1, metrics, timed=True)
    clock[0] = 2.0
    with pending.paused():
        assert finished == [(0, 2.0)]
        clock[0] += 100.0
    pending.add(1, 1, metrics, timed=True)
    clock[0] += 3.0
    pending.drain()
    assert finished == [(0, 2.0), (1, pytest.approx(3.0))]
    assert pending.paused_seconds == 100.0
