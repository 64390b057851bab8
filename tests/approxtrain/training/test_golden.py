"""The losses of a few steps, as this program computes them: what `archive.TRAJECTORY` numbers."""

from __future__ import annotations

from typing import Any

import pytest

from approxtrain import models
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

pytestmark = pytest.mark.both

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

# network → schedule, losses of twelve steps of seed 7, and loss of the validation images after six and twelve
GOLDEN: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    "cnn5": (
        ALL_METHODS,
        [2.31181, 2.35726, 2.33538, 2.3273, 2.25378, 2.22941, 2.16811, 2.06809, 2.13626, 2.09847, 2.12994, 2.09257],
        [2.17947, 2.04979],
    ),
    "other ops": (
        {"name": "schedule1", "method": "pooled"},
        [2.1844, 2.45048, 2.31379, 2.28177, 2.53824, 2.16402, 2.129, 2.13395, 1.94943, 2.07074, 1.82155, 1.83509],
        [2.28753, 2.00189],
    ),
}


class Losses(Listener):
    """Notes the loss of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, step, losses):
        self.found += losses


MEANT = (
    "If that is meant, raise TRAJECTORY in approxtrain/run/archive.py, so that `approxtrain reproduce` takes no old "
    "run for a new one, and put here what is found now:"
)


@pytest.mark.parametrize("network", GOLDEN)
def test_the_first_losses_are_those_that_the_trajectory_number_stands_for(network, configure, monkeypatch, tmp_path):
    schedule, losses, validation = GOLDEN[network]
    if network == "other ops":
        monkeypatch.setattr(models, "get", lambda name: models.Model("other ops", "", "tests.networks:OtherOps"))
    noted = Losses()
    config = configure(schedule, model=network, learning_rate=0.001, seed=7, epochs=2, validate_every=1)
    with RunFolder.create(tmp_path / "run") as folder:
        Run(config, folder, noted).train()
    rows = record.rows(tmp_path / "run" / record.METRICS)
    found = [[round(loss, 5) for loss in noted.found], [round(r["loss"], 5) for r in rows if r["kind"] == "validation"]]
    wrong = f"{network} takes other steps than it did. {MEANT}\n{found}"
    assert found[0] == pytest.approx(losses, abs=TOLERANCE), wrong
    assert found[1] == pytest.approx(validation, abs=TOLERANCE), wrong
