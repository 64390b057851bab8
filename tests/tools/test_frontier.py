"""The page of the frontier, of accuracies that are made up: what is compared to what, and the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from approxtrain.bench.timing import Ratio
from tools.frontier import comparison, page, times
from tools.frontier.families import FAMILIES, RESNET20

MADE_UP = {
    "exact4": {0: 70.0, 1: 71.0},
    "exact3": {0: 66.0, 1: 68.0},
    "exact2": {0: 60.0, 1: 61.0},
    "size24": {0: 69.0, 1: 71.0},
    "resnet8-5": {0: 58.0},
}
SHARES = {"exact4": 1.0, "exact3": 0.75, "exact2": 0.5, "size24": 3.5 / 4, "resnet8-5": 0.4}


@pytest.fixture
def made_up(monkeypatch):
    def accuracies(results, name):
        network, _, arm = name.partition("/")
        return MADE_UP.get(arm, {}) if network == "resnet20" else {}

    monkeypatch.setattr(comparison.arms, "accuracies", accuracies)
    shares = {name: Ratio(value, 0.9, 1.1, spread=0.0, rounds=3) for name, value in SHARES.items()}
    monkeypatch.setattr(times, "share_of_time", lambda network, name: shares.get(name))


def row(name: str) -> tuple[str, ...]:
    return next(row for row in page.rows("resnet20") if row[0] == RESNET20[name].text)


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
    (ratio,) = comparison.of_time_to_equal_accuracy("resnet20", "size24").values()
    assert ratio == pytest.approx(3.5 / (4 * 4 / 3))


def test_two_exact_runs_make_a_line(monkeypatch, made_up):
    monkeypatch.setitem(MADE_UP, "exact2", {0: 60.0})
    both = comparison.exact_lines("resnet20")
    assert both[1](np.log(3.5)) == pytest.approx(68 + 3 * np.log(3.5 / 3) / np.log(4 / 3))
    monkeypatch.setitem(MADE_UP, "exact3", {0: 66.0})
    assert list(comparison.exact_lines("resnet20")) == [0]


def test_what_was_not_timed_or_not_trained_has_no_numbers(made_up):
    assert row("both")[1:] == ("–", "–", "–", "–", "–", "0")


def test_another_network_is_held_against_this_one(made_up):
    assert row("resnet8-5")[3] == "−12.00 (n = 1)"


def test_the_picture_shows_the_arms_that_are_known(made_up):
    pixels = np.asarray(Image.open(io.BytesIO(page.draw("resnet20"))).convert("RGB"))
    assert pixels.shape == (900, 1200, 3)
    for name in (page.GREY, page.colour_of("resnet20", "size24")):
        colour = np.round(255 * np.array(to_rgb(name)))
        assert (pixels == colour).all(-1).sum() > 100


def test_the_time_of_a_run_is_that_of_its_steps(monkeypatch):
    family = FAMILIES["resnet20"]
    full = "resnet20, 128 images, full 1-19"
    assert times.columns_of(family, "exact4").keys() == {full}
    assert times.columns_of(family, "size24").keys() == {f"{full}, images of 24×24", full}
    assert times.columns_of(family, "batch96").keys() == {"resnet20, 96 images, full 1-19"}
    assert times.columns_of(family, "both").keys() > {"resnet20, 128 images, skip 1-7, full 8-19, images of 24×24"}
    assert times.columns_of(family, "resnet8-5").keys() == {"resnet8, 128 images, full 1-7"}
    seconds = {full: [1.0, 1.0], f"{full}, images of 24×24": [0.5, 0.7], "resnet20, 96 images, full 1-19": [0.8, 0.8]}
    monkeypatch.setattr(times.json, "loads", lambda text: {"seconds": seconds})
    times.share_of_time.cache_clear()
    try:
        assert times.share_of_time("resnet20", "size24").value == pytest.approx((1 + 0.6) / 2)
        # 468 steps in each of 3 epochs, against 351 in each of 4
        assert times.share_of_time("resnet20", "batch96").value == pytest.approx(0.8)
        assert times.share_of_time("resnet20", "both") is None
    finally:
        times.share_of_time.cache_clear()
