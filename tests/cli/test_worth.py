"""`approxtrain worth`: what it says before, on the way and in the end, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from approxtrain.config import dump, load

RULE = 'schedule={ rules = [{ method = "approx", layers = [2] }] }'
TINY = ("model.target=tests.networks:Tiny", "train.epochs=3", RULE)
SMALL = ("--steps", "4", "--forks", "2")


@pytest.fixture
def command(call, images, tmp_path):
    """The command with images of the tests, into a folder that is not there yet."""
    return lambda *more: call("worth", "quickstart", *images, *TINY, *SMALL, "--out", tmp_path / "out", *more)


def test_a_dry_run_says_what_it_would_cost_and_does_nothing(command, tmp_path):
    ended = command("--method", "zero", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1:] == [
        "costs     12 steps of an exact run, and 68 in forks: 5 kinds × 2 seeds × 4 steps at most, after epochs 1, 2",
        "timed     in 30 rounds, side by side: steps of 2 kinds and exact ones",
        "judged by 10 images (holdout)",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gate
def test_schedules_and_methods_are_measured_and_drawn(command, images, tmp_path):
    ended = command("--method", "zero")
    assert ended.code == 0, ended.err
    assert "epoch 2: fork 5 of 5, zero from layer 2" in ended.out
    found = json.loads((tmp_path / "out/worth.json").read_text())
    assert len(found["forks"]) == 10
    assert {(row["arm"], row["epoch"]) for row in found["rows"]} >= {
        (arm, epoch) for arm in ("rules", "zero from layer 2") for epoch in (1, 2)
    }
    assert {row["method"] for row in found["alignments"]} == {"approx", "zero"}
    assert "lowest" in ended.out
    assert found["environment"]["versions"]["jax"]
    assert (tmp_path / "out/worth.png").read_bytes().startswith(b"\x89PNG")
    folder = Path(images[0].removeprefix("data.dir="))
    moved = shutil.copytree(folder, tmp_path / "moved")
    again = command("--method", "zero", f"data.dir={moved}")  # all is there: only the table is shown
    assert again.code == 0, again.err
    assert "epoch 2: fork" not in again.out
    assert ("timing the steps" in ended.out, "timing the steps" in again.out) == (True, False)
    assert str(folder) not in (tmp_path / "out/worth.json").read_text()
    lacking = json.loads((tmp_path / "out/worth.json").read_text())
    lacking["forks"].pop()  # as of an exact run that was trained to its end by itself
    (tmp_path / "out/worth.json").write_text(json.dumps(lacking))
    refused = command("--method", "zero")
    assert refused.code == 2
    assert "went on without being forked (zero from layer 2)" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["schedule={ name = 'full' }"], "give a configuration with a schedule, or --method NAME"),
        (["schedule={ bypass = [{ path = 'features/*', to = 1 }] }"], "blocks that were trained"),
        (["cnn2-approx"], "differs from `quickstart` in [model]"),
        (["--method", "pooed"], "no method is called 'pooed'"),
        (["--method", "zero", "train.epochs=1"], "give it two epochs or more"),
    ],
    ids=["nothing to measure", "blocks that were trained", "different runs", "no such method", "one epoch"],
)
def test_what_cannot_be_measured_is_refused_in_words(arguments, said, call):
    ended = call("worth", "quickstart", *arguments)
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert said in ended.err


def test_smaller_images_are_something_to_measure(call):
    ended = call("worth", "quickstart", "schedule={ image_sizes = [{ size = 16 }] }", "--dry-run")
    assert ended.code == 0
    assert "4 kinds" in ended.out  # three exact ones, and this


def test_two_schedules_of_one_title_are_not_taken_for_one(call, tmp_path):
    for layer in (2, 3):
        rule = f'schedule={{ rules = [{{ method = "zero", layers = [{layer}] }}] }}'
        (tmp_path / f"{layer}.toml").write_text(dump(load("quickstart", [rule])))
    ended = call("worth", tmp_path / "2.toml", tmp_path / "3.toml", "--dry-run")
    assert ended.code == 2
    assert "Two schedules are both called `rules` here" in ended.err
