"""`approxtrain bench-step`: what it prints and what it writes."""

from __future__ import annotations

import importlib.util
import json
from typing import Any, NamedTuple

import numpy as np
import pytest

from approxtrain import models
from approxtrain.bench import torch_peer
from approxtrain_cli import bench_step_tables

VERDICTS = {"FASTER", "SLOWER", "SAME", "NOISY"}
OWN = ["full", "loop", "switch", "switch loop"]


class Measured(NamedTuple):
    """One run of the command: how it ended, and what it wrote."""

    ended: Any
    written: dict[str, Any]


@pytest.fixture(scope="module")
def measured(two_layers, tiny, call, tmp_path_factory) -> Measured:
    folder = tmp_path_factory.mktemp("step")
    data = [f"data.dir={tiny.folder(folder, tiny.binary)}", "data.name=mine", "train.batch_size=20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", lambda name: two_layers)
        patch.setattr(torch_peer, "takes_part", lambda: False)
        methods = ["--method", "zero", "--method", "pooled"]
        ended = call("bench-step", "quickstart", *data, "--rounds", 3, *methods, "--json", folder / "step.json")
    return Measured(ended, json.loads((folder / "step.json").read_text()))


@pytest.mark.gate
def test_steps_schedules_and_peers_are_held_against_the_exact_step(measured):
    ended, written = measured.ended, measured.written
    assert (ended.code, ended.err) == (0, "")
    schedules = [f"schedule3 with {method}" for method in ("approx", "zero", "pooled")]
    assert list(written["contenders"]) == [*OWN, *schedules, "plain"]
    for name, contender in written["contenders"].items():
        assert len(contender["milliseconds"]) == 3
        assert contender["temporaries_mb"] > 0
        ratio = contender["ratio_to_full"]
        assert name == "full" or (ratio["low"] <= ratio["value"] <= ratio["high"] and ratio["verdict"] in VERDICTS)
    assert written["contenders"]["full"]["ratio_to_full"] is None
    assert list(written["full_to_peer"]) == ["plain"]
    assert (written["model"], written["batch"], written["data"]["name"]) == ("two-layers", 20, "mine")
    assert written["environment"]["versions"]["jax"]
    assert "two-layers, batch 20, float32, mine, 3 rounds" in ended.out
    lines = [line for line in ended.out.splitlines() if line.startswith((*OWN, *schedules, "plain"))]
    assert len(lines) == len(written["contenders"]) + len(schedules)
    assert "…" not in "".join(lines)  # nothing is cut off


@pytest.mark.gate
def test_the_split_adds_up_and_the_bound_is_the_exact_step_less_what_the_cells_leave_out(measured):
    written = measured.written
    split = written["split_ms"]
    assert split["full"] == pytest.approx(split["forward"] + split["dgrad"] + split["wgrad"] + split["rest"])
    parts = {(part["part"], *part["layers"]): np.array(part["milliseconds"]) for part in written["parts"]}
    assert [key for key in parts if key[0] == "dgrad"] == [("dgrad", 2)]  # nobody asks for the images' gradient
    wgrads = parts["wgrad", 1] + parts["wgrad", 2]
    assert split["wgrad"] == pytest.approx(np.median(wgrads))
    for method, low, high in (("zero", 1.0, 1.0), ("pooled", 0.5, 0.75)):  # all layers, at every 4th step
        schedule = written["schedules"][f"schedule3 with {method}"]
        saved = split["full"] - schedule["bound_ms"]
        assert low * np.median(wgrads) / 4 <= saved * (1 + 1e-9) <= high * np.median(wgrads) / 4 * (1 + 2e-9)
        gain, share = schedule["speed_up"]["value"], schedule["share_of_bound"]["value"]
        assert schedule["bound_speed_up"]["value"] * share == pytest.approx(gain)
        assert gain == pytest.approx(1 - written["contenders"][f"schedule3 with {method}"]["median_ms"] / split["full"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cnn2-approx", "resnet20-full"), "`model` differs between the configurations"),
        (("quickstart", "--peer", "tensorflow"), "--peer tensorflow is unknown: it is plain, torch or none"),
        (("quickstart", "--method", "nonsense"), "no method is called 'nonsense'"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(call, arguments, words):
    ended = call("bench-step", *arguments)
    assert ended.code == 2
    assert words in ended.err


def test_torch_is_asked_for_where_it_is_not_installed(call, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ended = call("bench-step", "quickstart", "--peer", "torch")
    assert ended.code == 2
    assert "pip install torch" in ended.err


@pytest.mark.parametrize(("verdict", "shown"), [("NOISY", "NOISY"), ("FASTER", "80%")])
def test_of_a_noisy_step_no_share_of_the_bound_is_shown(verdict, shown):
    figures = {"value": 0.8, "low": 0.7, "high": 0.9}
    schedule = dict.fromkeys(("speed_up", "bound_speed_up", "share_of_bound"), figures)
    table = bench_step_tables.schedules(
        {"schedules": {"mine": schedule}, "contenders": {"mine": {"ratio_to_full": {"verdict": verdict}}}}
    )
    assert list(table.columns[4].cells) == [shown]
