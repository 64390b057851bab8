"""The table of accuracies on several devices, of accuracies that are made up."""

from __future__ import annotations

import pytest

from tools import replicas

MADE_UP = {"full": {0: 60.0, 1: 62.0}, "aligned": {0: 59.0, 1: 62.0}}


def test_an_arm_is_held_against_every_gradient_seed_by_seed(monkeypatch):
    monkeypatch.setattr(replicas, "accuracies", lambda name: MADE_UP.get(name, {}))
    full, aligned, rotated, _ = list(replicas.rows())[1:]
    assert full[3:] == ("61.00 ± 12.71", "–", "2")  # Student's t of one degree of freedom: 12.71
    assert aligned[3:] == ("60.50 ± 19.06", "−0.50 ± 6.35", "2")
    assert rotated[3:] == ("–", "–", "0")


def test_what_is_left_out_on_all_devices_saves_time_and_what_moves_round_saves_none():
    of = {name: arm.load for name, arm in replicas.ARMS.items()}
    assert of["full"].slowest == of["rotated"].slowest == of["local"].slowest == pytest.approx(1.0)
    assert of["aligned"].mean == pytest.approx(of["rotated"].mean, rel=1e-3)
    assert of["aligned"].slowest == pytest.approx(of["aligned"].mean)
    assert of["local"].bytes_sent == pytest.approx(of["full"].bytes_sent / replicas.EVERY, rel=0.01)
