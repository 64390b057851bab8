"""Builders for the schedules of the paper, for use from Python. Their definitions are in `named.toml`.

schedule1(models.get("resnet20").layers, "approx", k=4)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from approxtrain.models.description import ConvLayer
from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.schedule import Schedule

Layers = Sequence[ConvLayer]


def full(layers: Layers) -> Schedule:
    """Every weight gradient exact."""
    return _build(layers, name="full")


def schedule1(layers: Layers, method: str = "approx", **params: Any) -> Schedule:
    """Every 4th layer from the 2nd, at every step (section 3)."""
    return _build(layers, name="schedule1", method=method, params=params)


def schedule2(layers: Layers, method: str = "approx", **params: Any) -> Schedule:
    """Every other layer from the 2nd, at every other step (section 3.4)."""
    return _build(layers, name="schedule2", method=method, params=params)


def schedule3(layers: Layers, method: str = "approx", **params: Any) -> Schedule:
    """All layers, at every 4th step (section 3.4)."""
    return _build(layers, name="schedule3", method=method, params=params)


def alternate(layers: Layers, method: str = "approx", **params: Any) -> Schedule:
    """The 2nd layer, at every other step (section 3, the 2-layer CNN)."""
    return _build(layers, name="alternate", method=method, params=params)


def figure3(layers: Layers) -> Schedule:
    """The paper's Figure 3, for a network of five layers."""
    return _build(layers, name="figure3")


def _build(layers: Layers, **section: Any) -> Schedule:
    # None of them names an epoch, so that the length of an epoch does not matter.
    return Schedule.from_config(ScheduleConfig.model_validate(section), layers, steps_per_epoch=1)
