"""Training steps of a small network on some devices, ready to be called and compared."""

from __future__ import annotations

import json
import re
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain.config import Config
from approxtrain.models import Model
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.schedule import Schedule
from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.parallel import Replicas
from approxtrain.training.step import TrainState, by_path, set_up

BATCH = 32
ADAM = {"optimizer": {"learning_rate": 0.001}}
STRAIGHT = {"name": "sgd", "momentum": 0.0, "learning_rate": 1024.0, "rate": "constant"}
"""A step that is the gradient: by a power of two, next to which the parameters are small."""


def configured(schedule: dict[str, Any], devices: int, *, network: str = "Small", **tables: Any) -> Config:
    tables = {"train": {}, "optimizer": STRAIGHT, "parallel": {}, **tables}
    return Config.model_validate(
        {
            "model": {"target": f"tests.networks:{network}"},
            "data": {"name": "shapes", "limit": 200, "image_size": 8},
            "schedule": schedule,
            **tables,
            "train": {"epochs": 2, "batch_size": BATCH, "trackers": [], **tables["train"]},
            "parallel": {"devices": devices, **tables["parallel"]},
        }
    )


class Bench(NamedTuple):
    dispatch: Dispatch
    state: TrainState
    images: Images
    order: jax.Array

    def run(self, steps: int) -> tuple[TrainState, list[float], list[float]]:
        """The state after these steps, and the loss and the number of images that were right of each."""
        state, losses, correct, step = jax.tree.map(jnp.copy, self.state), [], [], 0
        while step < steps:
            state, metrics = self.dispatch(step, state, self.images, self.order)
            losses += np.asarray(metrics.loss).ravel().tolist()
            correct += np.asarray(metrics.correct).ravel().tolist()
            step += self.dispatch.span(step)
        self.dispatch.replicas.refuse_unless_equal(state)
        return state, losses, correct

    def gradient(self) -> tuple[dict[str, np.ndarray], TrainState]:
        """Of the first step, by parameter; and the state after it."""
        return self.gradient_at(0)

    def gradient_at(self, step: int) -> tuple[dict[str, np.ndarray], TrainState]:
        """The same, as if the first step had this number."""
        begun = self.state._replace(step=self.dispatch.replicas.place(jnp.int32(step)))
        state, _ = self.dispatch(step, jax.tree.map(jnp.copy, begun), self.images, self.order)
        self.dispatch.replicas.refuse_unless_equal(state)
        before, after = by_path(self.state.params), by_path(state.params)
        return {name: (np.asarray(before[name]) - np.asarray(after[name])) / 1024 for name in before}, state

    @property
    def program(self) -> str:
        return self.dispatch.program(0, self.state, self.images, self.order).as_text()


def bench(schedule: dict[str, Any], devices: int, *, network: str = "Small", **tables: Any) -> Bench:
    config = configured(schedule, devices, network=network, **tables)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 200).astype(np.int32)
    model = Model("small", "", f"tests.networks:{network}", image_shape=(8, 8, 3))
    keys, replicas = Keys.of([0]), Replicas.of(config)
    task, state = set_up(model, config, len(labels) // BATCH, keys.init)
    table = Schedule.from_config(config.schedule, model.layers, len(labels) // BATCH, None, replicas.count)
    images = Images(*map(jnp.asarray, (pixels, labels, *channel_statistics(pixels))))
    order = jax.jit(epoch_order, static_argnums=2)(keys.order, jnp.int32(1), len(labels))
    dispatch = Dispatch(task, table, keys, config.train, mode="host", replicas=replicas)
    return Bench(dispatch, *replicas.place((state, images, order)))


@cache
def alone(column: tuple[str, ...], devices: int, adam: bool = False) -> Bench:
    """One device with as many images as each of several has, which makes steps under a column."""
    train, more = {"augment": False, "batch_size": BATCH // devices}, ADAM if adam else {}
    return bench({"grid": [[name] for name in column]}, 1, train=train, **more)


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Within this share of the largest number of each array."""
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        largest = np.abs(np.asarray(right)).max()
        np.testing.assert_allclose(found[name], right, rtol=0, atol=tolerance * max(largest, 1e-6), err_msg=name)


def collectives(text: str) -> dict[str, int]:
    """Bytes that come out of each kind of collective in a compiled program."""
    found: dict[str, int] = {}
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        sizes = [prod(map(int, size.split(","))) if size else 1 for size in re.findall(r"\w+\[([\d,]*)\]", shapes)]
        assert set(re.findall(r"(\w+)\[", shapes)) == {"f32"}
        found[kind] = found.get(kind, 0) + 4 * sum(sizes)
    return found


class Interrupted(Exception):
    pass


class Stop(Listener):
    def __init__(self, after: int) -> None:
        self.after, self.warnings, self.losses = after, [], {}

    def step(self, step: int, losses: list[float]) -> None:
        self.losses[step] = losses[0]
        if step == self.after:
            raise Interrupted

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def train(schedule: dict[str, Any], folder: Path, devices: int, *, stop: int = 0, **more: Any) -> dict[str, Any]:
    """The summary of a run of two epochs of six steps. Interrupted after step `stop`, if it is one."""
    config = configured(schedule, devices, train={"check": "finite", **more}, **ADAM)
    opened = RunFolder.open(folder) if folder.exists() else RunFolder.create(folder)
    # nothing is copied from device to device in passing: what lies where is said
    with opened, jax.transfer_guard_device_to_device("disallow"):
        return Run(config, opened, Stop(stop)).train()


def losses_of(folder: Path, kind: str) -> dict[int, float]:
    """Losses by their step."""
    rows = map(json.loads, (folder / record.METRICS).read_text().splitlines())
    return {row["step"]: row["loss"] for row in rows if row["kind"] == kind}
