"""Power laws recovered from planted data, and what Table 1's times say about the paper's second observation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from approxtrain.report.inputs import BenchFile
from approxtrain.report.table1 import growth, powers
from approxtrain_kernels.shapes import PAPER

SIZES = [(shape.in_channels, shape.height * shape.width) for shape in PAPER]


def times(p: float, q: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    exact = [0.003 * channels**p * area**q for channels, area in SIZES]
    return (np.array(exact) * np.exp(noise * rng.standard_normal(8))).tolist()


def measured(dense: list[float], kernel: list[float]) -> BenchFile:
    rows = []
    for shape, base, own in zip(PAPER, dense, kernel, strict=True):
        samples = {"dense": [base, base, 9 * base], "method": [own, own, 9 * own]}
        row = {"shape": json.loads(json.dumps(asdict(shape))), "dtype": "float32", "cache": "cold"}
        rows.append(row | {"milliseconds": samples, "also": {}})
    return BenchFile("measured.json", {"rows": rows})


def test_exponents_are_those_that_were_planted():
    found = powers(SIZES, times(1.5, 0.25))
    assert [p for p, _, _ in found] == pytest.approx([1.5, 0.25])
    _, low, high = found[0]
    assert high - low < 1e-9


def test_an_interval_holds_the_planted_exponent_in_95_percent_of_noisy_fits():
    noisy = [powers(SIZES, times(1.0, 0.5, noise=0.2, seed=seed)) for seed in range(2000)]
    for number, planted in enumerate((1.0, 0.5)):
        intervals = [found[number][1:] for found in noisy]
        assert sum(low <= planted <= high for low, high in intervals) / 2000 == pytest.approx(0.95, abs=0.015)


def test_too_few_times_and_sizes_that_vary_together_tell_nothing():
    assert powers([(1, 3), (2, 1), (3, 2)], [1, 2, 3]) == []
    assert powers([(channels, channels**2) for channels, _ in SIZES], times(1, 0)) == []


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
    _, found = growth(measured(times(*dense, noise), times(*kernel, noise, seed=1)))
    assert (found["where"], found["second_observation"]) == ("cold, float32", verdict)


def test_shapes_that_were_not_timed_are_left_out():
    bench = measured(times(2, 1), times(2, 0))
    rows = bench.content["rows"]
    rows[0]["milliseconds"] = {}
    _, found = growth(bench)
    assert [found[f"{part} {size}"] for part in ("dense", "kernel") for size in ("C_i", "H·W")] == pytest.approx(
        [2, 1, 2, 0], abs=1e-9
    )
    assert growth(BenchFile("few.json", {"rows": rows[:4]})) == []


def test_a_result_of_bench_kernel_is_fitted_for_both_caches():
    path = Path(__file__).parents[3] / "results/bench/kernel-paper-cpu.json"
    paper, cold, hot = growth(BenchFile(path.name, json.loads(path.read_text("utf-8"))))
    assert [found["where"] for found in (paper, cold, hot)] == ["paper", "cold, float32", "hot, float32"]
    assert cold["dense H·W low"] < cold["dense H·W"] < cold["dense H·W high"]
    assert cold["dense H·W"] == pytest.approx(1, abs=0.15)  # the operations grow with H·W
    assert paper["second_observation"] == "inconclusive"  # its own times are too scattered to show it
