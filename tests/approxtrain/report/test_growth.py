"""Power laws recovered from planted data, and what Table 1's times say about the paper's second observation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from approxtrain.report.table1 import fit_of_paper, fits, power_law

CHANNELS = (256, 128, 512, 512, 64, 16, 32, 64)
MAPS = (64, 256, 16, 4, 1024, 1024, 256, 64)


def times(p: float, q: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    exact = 0.003 * np.array(CHANNELS, float) ** p * np.array(MAPS, float) ** q
    return (exact * np.exp(noise * rng.standard_normal(8))).tolist()


def measured(dense: list[float], kernel: list[float]) -> list[dict]:
    rows = []
    for channels, area, base, own in zip(CHANNELS, MAPS, dense, kernel, strict=True):
        side = int(area**0.5)
        shape = {"in_channels": channels, "height": side, "width": side}
        samples = {"dense": [base, base, 9 * base], "method": [own, own, 9 * own]}
        rows.append({"shape": shape, "dtype": "float32", "cache": "cold", "milliseconds": samples})
    return rows


def test_exponents_and_coefficient_are_those_that_were_planted():
    fit = power_law({"C": CHANNELS, "HW": MAPS}, times(1.5, 0.25))
    assert fit["coefficient"] == pytest.approx(0.003)
    assert [p for p, _, _ in fit["exponents"].values()] == pytest.approx([1.5, 0.25])
    _, low, high = fit["exponents"]["C"]
    assert high - low < 1e-9
    assert (fit["n"], fit["residual"]) == (8, pytest.approx(0, abs=1e-9))


def test_an_interval_holds_the_planted_exponent_in_95_percent_of_noisy_fits():
    noisy = [power_law({"C": CHANNELS, "HW": MAPS}, times(1.0, 0.5, noise=0.2, seed=seed)) for seed in range(2000)]
    for name, planted in (("C", 1.0), ("HW", 0.5)):
        intervals = [fit["exponents"][name][1:] for fit in noisy]
        assert sum(low <= planted <= high for low, high in intervals) / 2000 == pytest.approx(0.95, abs=0.015)
    assert np.mean([fit["residual"] for fit in noisy]) == pytest.approx(0.2, abs=0.02)


def test_too_few_times_and_sizes_that_vary_together_are_refused():
    with pytest.raises(ValueError, match="takes at least 4"):
        power_law({"C": [1, 2, 3], "HW": [3, 1, 2]}, [1, 2, 3])
    with pytest.raises(ValueError, match="C, HW vary together"):
        power_law({"C": CHANNELS, "HW": [c**2 for c in CHANNELS]}, times(1, 0))


@pytest.mark.parametrize(
    ("dense", "kernel", "noise", "verdict"),
    [
        ((2, 1), (2, 0), 0.05, "holds"),
        ((2, 1), (2, 1), 0.05, "does not hold"),  # the kernel grows with the map too
        ((2, 0), (2, 0), 0.05, "does not hold"),  # the dense form does not
        ((2, 1), (0, 0), 0.05, "does not hold"),  # the kernel does not grow with the channels
        ((2, 1), (2, 0), 1.5, "inconclusive"),
    ],
)
def test_the_second_observation_holds_where_it_was_planted(dense, kernel, noise, verdict):
    found = fits(measured(times(*dense, noise), times(*kernel, noise, seed=1)))
    assert list(found) == ["cold, float32"]
    assert found["cold, float32"]["second_observation"] == verdict


def test_shapes_that_were_not_timed_are_left_out():
    rows = measured(times(2, 1), times(2, 0))
    rows[0]["milliseconds"] = {}
    assert fits(rows)["cold, float32"]["dense"]["n"] == 7
    assert fits(rows[:4]) == {}


def test_a_result_of_bench_kernel_is_fitted_for_both_caches():
    path = Path(__file__).parents[3] / "results/bench/kernel-paper-cpu.json"
    found = fits(json.loads(path.read_text("utf-8"))["rows"])
    assert list(found) == ["cold, float32", "hot, float32"]
    value, low, high = found["cold, float32"]["dense"]["exponents"]["H·W"]
    assert low < value < high
    assert value == pytest.approx(1, abs=0.15)  # the operations grow with H·W


def test_the_papers_own_times_are_too_scattered_to_show_it():
    assert fit_of_paper()["second_observation"] == "inconclusive"
