"""The losses of a few steps, as this program computes them: what `approxtrain.trajectory` numbers."""

from __future__ import annotations

from typing import Any

import pytest

from approxtrain import record
from approxtrain.listener import Listener
from approxtrain.run_folder import RunFolder
from approxtrain.train import Run

TOLERANCE = 1e-3
"""Of a loss near 2: ten times what other machines, convolutions and versions of jax make of it in these steps."""

ALL_METHODS = {
    "cells": {"sharp": {"method": "approx", "params": {"k": 3, "scale": "paper"}}},
    "grid": [
        ["random", "full"],
        ["zero", "pooled"],
        ["skip", "approx"],
        ["sharp", "full"],
        ["full", "random"],
    ],
}

# (network, schedule) → losses of twelve steps of seed 7, then loss of the validation images after six and twelve
GOLDEN: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    "cnn5": (
        ALL_METHODS,
        [2.31181, 2.35726, 2.33538, 2.3273, 2.25378, 2.22941, 2.16811, 2.06809, 2.13626, 2.09847, 2.12994, 2.09257],
        [2.17947, 2.04979],
    ),
    "cnn2": (
        {"name": "alternate", "method": "approx"},
        [2.70373, 2.72391, 2.38354, 2.44483, 2.4251, 2.57294, 2.36774, 2.47166, 2.3695, 2.44244, 2.12063, 2.16885],
        [2.32744, 2.20721],
    ),
    "resnet14": (
        {"name": "schedule1", "method": "pooled"},
        [3.06556, 2.97774, 2.37534, 2.28243, 2.33333, 2.17322, 1.83364, 1.77954, 1.5286, 1.64352, 1.28366, 1.21656],
        [2.99731, 3.2131],
    ),
}


LEARNING_RATE = {"cnn2": 1e-5}
"""Its max pooling decides by rounding between equal entries, which large steps make much of."""


class Losses(Listener):
    """Notes the loss of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, step, losses):
        self.found += losses


@pytest.mark.parametrize("network", GOLDEN)
def test_the_first_losses_are_those_that_the_trajectory_number_stands_for(network, configure, tmp_path):
    schedule, losses, validation = GOLDEN[network]
    noted = Losses()
    config = configure(
        schedule, model=network, learning_rate=LEARNING_RATE.get(network, 0.001), seed=7, epochs=2, validate_every=1
    )
    with RunFolder.create(tmp_path / "run") as folder:
        Run(config, folder, noted).train()
    rows = record.rows(tmp_path / "run" / record.METRICS)
    found = noted.found, [row["loss"] for row in rows if row["kind"] == "validation"]
    wrong = (
        f"{network} takes other steps than it did. If that is meant, raise TRAJECTORY in approxtrain/trajectory.py, so "
        f"that `approxtrain reproduce` takes no old run for a new one, and put these here:\n"
        f"{[[round(loss, 5) for loss in losses] for losses in found]}"
    )
    assert found[0] == pytest.approx(losses, abs=TOLERANCE), wrong
    assert found[1] == pytest.approx(validation, abs=TOLERANCE), wrong
