"""The page of the frontier, of accuracies that are made up: what is compared to what, and the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from approxtrain.bench.timing import Ratio
from tools import frontier

MADE_UP = {
    "exact4": {0: 70.0, 1: 71.0},
    "exact3": {0: 66.0, 1: 68.0},
    "exact2": {0: 60.0, 1: 61.0},
    "size24": {0: 69.0, 1: 71.0},
}


@pytest.fixture
def made_up(monkeypatch):
    share = {"exact4": 1.0, "exact3": 0.75, "exact2": 0.5, "size24": 3.5 / 4}
    monkeypatch.setattr(frontier, "accuracies", lambda name: MADE_UP.get(name, {}))
    shares = {name: Ratio(value, 0.9, 1.1, spread=0.0, rounds=3) for name, value in share.items()}
    monkeypatch.setattr(frontier, "share_of_time", shares.get)


def row(name: str) -> tuple[str, ...]:
    return next(row for row in frontier.rows() if row[0] == frontier.ARMS[name].text)


def test_an_arm_is_held_against_exact_training_of_its_own_time(made_up):
    _, time, accuracy, whole, equal, faster, seeds = row("size24")
    # exact training of 3.5 epochs, between that of 3 and of 4, linear in the logarithm
    at = np.log(3.5 / 3) / np.log(4 / 3)
    difference = np.mean([69 - (66 + at * 4), 71 - (68 + at * 3)])
    assert time.startswith("0.875")
    assert accuracy.startswith("70.00 ±")
    assert whole.startswith("−0.50 ±")
    assert equal.startswith(f"{difference:+.2f} ±".replace("-", "−"))
    # as accurate are 3 · (4/3)^(3/4) epochs, and 4
    of_each = [3.5 / (3 * (4 / 3) ** 0.75), 3.5 / 4]
    assert faster.startswith(f"{np.mean(of_each):.2f} ±")
    assert seeds == "2"


def test_beyond_the_longest_exact_run_its_last_part_is_drawn_on(monkeypatch, made_up):
    monkeypatch.setitem(MADE_UP, "size24", {1: 74.0})
    (ratio,) = frontier.of_time_to_equal_accuracy("size24").values()
    assert ratio == pytest.approx(3.5 / (4 * 4 / 3))


def test_what_was_not_timed_or_not_trained_has_no_numbers(made_up):
    assert row("both")[1:] == ("–", "–", "–", "–", "–", "0")


def test_the_picture_shows_the_arms_that_are_known(made_up):
    pixels = np.asarray(Image.open(io.BytesIO(frontier.draw())).convert("RGB"))
    assert pixels.shape == (750, 1050, 3)
    for name in ("#808080", frontier.colour_of("size24")):
        colour = np.round(255 * np.array(to_rgb(name)))
        assert (pixels == colour).all(-1).sum() > 100
