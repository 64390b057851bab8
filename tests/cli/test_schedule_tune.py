"""`approxtrain schedule-tune`: what it says before, what it writes, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from approxtrain.config import load

TINY = ("model.target=tests.networks:Tiny", "train.epochs=3", "optimizer.learning_rate=0.03")
SMALL = ("--steps", "20", "--forks", "2")


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> list[str]:
    """Overrides: images of noise whose colour tells the class, so that a tiny network learns them."""
    rng, classes = np.random.default_rng(0), np.arange(1000) % 10
    centre = rng.uniform(60, 190, (10, 3))[classes]
    pixels = (centre[:, None, None] + rng.normal(0, 60, (1000, 8, 8, 3))).clip(0, 255).astype(np.uint8)
    file = tmp_path_factory.mktemp("colours") / "colours.npz"
    np.savez(file, x_train=pixels, y_train=classes)
    return [f"data.dir={file}", "data.name=arrays", "data.holdout=300", "train.batch_size=20", "train.augment=false"]


@pytest.fixture
def command(call, colours, tmp_path):
    """The command with images that can be learnt, for a file that is not there yet."""
    return lambda *more, out="tuned.toml": call(
        "schedule-tune", "quickstart", *colours, *TINY, *SMALL, "--out", tmp_path / out, *more
    )


def test_a_dry_run_says_what_it_would_cost_and_does_nothing(command, tmp_path):
    ended = command("--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].startswith("costs     105 steps of an exact run, and ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gate
def test_a_schedule_is_measured_chosen_written_and_trains(command, call, tmp_path):
    ended = command("--budget", "loss=99")  # of time there may be nothing to save in so small a network
    assert ended.code == 0, ended.err
    text = (tmp_path / "tuned.toml").read_text()
    assert text.startswith("# Found by `approxtrain schedule-tune`")
    found = load(str(tmp_path / "tuned.toml"))
    assert (found.train.epochs, found.data.holdout) == (3, 300)
    assert (tmp_path / "tuned.png").read_bytes().startswith(b"\x89PNG")
    measured = json.loads(next(tmp_path.glob("tune-*/tune.json")).read_text())
    assert measured["front"]
    assert {fork["epoch"] for fork in measured["forks"] if fork["arm"].startswith("images of")} == {0}
    assert {"pooled, layer 2", "0.5 of each batch"} <= {each["option"] for each in measured["measured"]}
    assert measured["environment"]["versions"]["jax"]
    again = command("--budget", "loss=0", out="other.toml")  # nothing is measured again
    assert again.code == 0, again.err
    assert "fork 1 of" not in again.out
    assert ("timing the steps" in ended.out, "timing the steps" in again.out) == (True, False)
    impossible = command("--budget", "time=0.01", out="third.toml")
    assert impossible.code == 2
    assert "the fastest schedule of these methods takes" in impossible.err
    trained = call("train", tmp_path / "other.toml", "--dry-run")
    assert trained.code == 0, trained.err


@pytest.mark.parametrize("budget", ["time=1.2", "0.8", "loss=-1", "time=fast"])
def test_a_budget_that_is_none_is_told_in_words(call, budget):
    ended = call("schedule-tune", "quickstart", "--budget", budget)
    assert ended.code == 2
    assert "such as time=0.8" in ended.err


def test_a_file_that_is_there_is_not_written_over(call, tmp_path):
    (tmp_path / "tuned.toml").write_text("")
    ended = call("schedule-tune", "quickstart", "--out", tmp_path / "tuned.toml")
    assert ended.code == 2
    assert "is there already" in ended.err
    ended = call("schedule-tune", "quickstart", "--out", tmp_path / "tuned.json")
    assert "must end in .toml" in ended.err
