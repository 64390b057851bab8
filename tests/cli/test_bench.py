"""`approxtrain bench-step`: what it prints and what it writes."""

from __future__ import annotations

import json

import pytest

from approxtrain import models

VERDICTS = {"FASTER", "SLOWER", "SAME", "NOISY"}


@pytest.fixture
def step_arguments(monkeypatch, two_layers, tiny, tmp_path) -> list[str]:
    monkeypatch.setattr(models, "get", lambda name: two_layers)
    folder = tiny.folder(tmp_path, tiny.binary)
    return ["bench-step", "quickstart", f"data.dir={folder}", "data.name=mine", "train.batch_size=20", "--rounds", "3"]


def test_steps_are_held_against_the_plain_one_with_intervals(step_arguments, call, tmp_path):
    ended = call(*step_arguments, "schedule.method=zero", "--json", tmp_path / "step.json")
    assert (ended.code, ended.err) == (0, "")
    written = json.loads((tmp_path / "step.json").read_text())
    contenders = ["plain", "ours", "loop", "switch", "schedule"]
    assert {name: len(samples) for name, samples in written["milliseconds"].items()} == dict.fromkeys(contenders, 3)
    assert list(written["ratio_to_plain"]) == contenders[1:]
    for found in written["ratio_to_plain"].values():
        assert found["low"] <= found["value"] <= found["high"]
        assert found["verdict"] in VERDICTS
    assert (written["model"], written["batch"], written["data"]["name"]) == ("two-layers", 20, "mine")
    assert written["environment"]["versions"]["jax"]
    assert "two-layers, batch 20, float32, mine, 3 rounds; schedule: schedule3 with zero" in ended.out
    table = [line.split() for line in ended.out.splitlines() if line.startswith(tuple(contenders))]
    assert [row[0] for row in table] == contenders
    assert [row[-1] for row in table[1:]] == [found["verdict"] for found in written["ratio_to_plain"].values()]
