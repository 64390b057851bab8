"""`approxtrain bench-kernel` and `bench-step`: what they print, what they write, and what they refuse to time."""

from __future__ import annotations

import json
import re

import pytest

from approxtrain import models
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.full import Full

SHAPE = ("bench-kernel", "--shapes", "2,4,4,3,5,3,1", "--rounds", "3")
VERDICTS = {"FASTER", "SLOWER", "SAME", "NOISY"}


def test_a_shape_is_a_line_of_the_table_and_every_sample_is_in_the_json(call, tmp_path):
    ended = call(*SHAPE, "--method", "approx", "--k", "2", "--json", tmp_path / "deep" / "bench.json")
    assert (ended.code, ended.err) == (0, "")
    assert "the method approx(k=2) against the dense weight gradient; float32, 3 interleaved rounds" in ended.out
    (line,) = (line for line in ended.out.splitlines() if line.startswith("3→5 4×4 k3 s1 "))
    assert line.split()[-1] in VERDICTS
    assert re.search(r" \d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\) +\d+% \de-\d\d ", line)  # speed-up, interval, spread, error
    written = json.loads((tmp_path / "deep" / "bench.json").read_text())
    assert (written["command"], written["method"], written["dtype"]) == ("bench-kernel", "approx(k=2)", "float32")
    assert written["environment"].keys() >= {"device", "versions", "xla_flags", "cpu_count", "git_commit"}
    (row,) = written["rows"]
    assert row["shape"]["in_channels"] == 3
    assert {name: len(samples) for name, samples in row["milliseconds"].items()} == {"dense": 3, "method": 3}
    assert {name: error < 1e-5 for name, error in row["relative_error"].items()} == {"dense": True, "method": True}
    assert row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]
    assert (row["failed"], row["ratio"]["verdict"]) == ([], line.split()[-1])


@pytest.mark.parametrize(("wrong", "name"), [(Approx, "method"), (Full, "dense")], ids=["method", "dense"])
def test_a_wrong_gradient_is_a_failure_without_a_time(wrong, name, call, monkeypatch, tmp_path):
    right = wrong.estimate
    monkeypatch.setattr(wrong, "estimate", lambda *args, **options: right(*args, **options) * 1.001)
    ended = call(*SHAPE, "--json", tmp_path / "bench.json")
    assert ended.code == 1
    (line,) = (line for line in ended.out.splitlines() if line.startswith("3→5 4×4 k3 s1 "))
    assert line.split()[3:] == ["k3", "s1", name, "wrong", "1e-03", "FAIL"][1:]
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert (row["failed"], row["milliseconds"], row["ratio"]) == ([name], {}, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--shapes", "1,2,3"], "seven numbers N,H,W,Ci,Co,K,S, such as 128,32,32,16,16,3,1; this is '1,2,3'."),
        (["--shapes", "2,4,4,3,5,0,1"], "`kernel_size` (=(0, 0)) must be"),
        (["--shapes", "2,0,4,3,5,3,1"], "every number of a shape must be at least 1"),
        (["--shapes", "model:resnet21"], "there are cnn2, cnn5, resnet14, resnet20"),
        (["--method", "aprox"], "must be one of full, approx, random, skip, zero. Did you mean 'approx'?"),
        (["--method", "zero", "--k", "3"], "method 'zero' has no parameter 'k'; it takes no parameter."),
        (["--method", "random"], "draws numbers: there is no exact value to check it against."),
        (["--dtype", "float16"], "must be float32 or bfloat16."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_refused_with_what_there_is(arguments, told, call):
    ended = call("bench-kernel", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: `{arguments[0]}`") or arguments[-2] == "--k"
    assert told in ended.err


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
