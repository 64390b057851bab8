"""The same training run by two implementations of `approx`, from the same seed: do they learn the same?

Losses agree at first and then drift apart, as those of any two ways of rounding do. `Comparison.drift` says how fast:
it is the control without which a difference of losses says nothing. What should agree is where the runs end: one seed,
so a difference of accuracies says something only where it is large.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain import data, models
from approxtrain.config import Config, steps_per_epoch
from approxtrain.schedule import Schedule
from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.evaluate import Evaluator
from approxtrain.training.step import Task, TrainState, set_up

SHOWN = 20
"""First losses that are put side by side."""


class Comparison:
    """One data set, several runs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model, self.steps = models.get(config.model.name), steps_per_epoch(config)
        dataset = data.load(config.data)
        self.data = {"name": dataset.name, "sha256": dataset.sha256}
        statistics = [jnp.asarray(part) for part in channel_statistics(dataset.train_images)]
        self.train = Images(jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels), *statistics)
        self.test = Images(jnp.asarray(dataset.test_images), jnp.asarray(dataset.test_labels), *statistics)
        self._order = jax.jit(epoch_order, static_argnums=2)

    def run(self, implementation: str | None) -> dict[str, Any]:
        """Train by the configuration; losses, accuracy on the test images, seconds."""
        losses, means, start = [], [], time.perf_counter()
        task, dispatch, state = self._start(implementation)
        for epoch in range(1, self.config.train.epochs + 1):
            for step, trained, loss in self._epoch(epoch, dispatch, state):
                state = trained
                if step < SHOWN:
                    losses.append(loss)
            means.append(float(state.loss_sum) / self.steps)
        seconds = time.perf_counter() - start
        found = Evaluator(task, self.test)(state)
        return {
            "implementation": implementation,
            "first_losses": [float(loss) for loss in losses],
            "mean_losses": means,
            "test_accuracy": found.accuracy,
            "test_loss": found.loss,
            "seconds_with_compiling": seconds,
            "compile_seconds": dispatch.compile_seconds,
        }

    def drift(self) -> dict[str, Any]:
        """How far the first losses of one program are from themselves: run again, and with each weight one ulp up."""
        _, dispatch, state = self._start(None)
        plain = self._first_losses(dispatch, state)
        starts = {
            "run again": state,
            "one ulp": state._replace(params=jax.tree.map(lambda p: jnp.nextafter(p, jnp.inf), state.params)),
        }
        losses = {name: self._first_losses(dispatch, start) for name, start in starts.items()}
        apart = {name: [abs(a - b) for a, b in zip(plain, found, strict=True)] for name, found in losses.items()}
        return {"first_losses": plain, "apart": apart, "largest": {name: max(found) for name, found in apart.items()}}

    def _start(self, implementation: str | None) -> tuple[Task, Dispatch, TrainState]:
        config, keys = self.config, Keys.of(self.config.train.seed)
        task, state = set_up(self.model, config, self.steps, keys.init)
        schedule = Schedule.from_config(config.schedule, self.model.layers, self.steps)
        named = {"implementation": implementation}
        cells = tuple(replace(cell, **named) if cell.name == "approx" else cell for cell in schedule.cells)
        schedule = replace(schedule, cells=cells)
        batch, augment = config.train.batch_size, config.train.augment
        dispatch = Dispatch(task, schedule, keys, batch_size=batch, augment=augment, mode="host")
        return task, dispatch, state

    def _epoch(self, epoch: int, dispatch: Dispatch, state: TrainState) -> Iterator[tuple[int, TrainState, jax.Array]]:
        """Each step of an epoch, counted from 0 over all: the state after it, and its loss."""
        order = self._order(Keys.of(self.config.train.seed).order, jnp.int32(epoch), self.train.labels.shape[0])
        for step in range((epoch - 1) * self.steps, epoch * self.steps):
            state, metrics = dispatch(step, state, self.train, order)
            yield step, state, metrics.loss

    def _first_losses(self, dispatch: Dispatch, state: TrainState) -> list[float]:
        own = jax.tree.map(jnp.copy, state)  # a step gives its state's memory away
        return [float(loss) for _, _, loss in islice(self._epoch(1, dispatch, own), SHOWN)]


def distance(runs: list[dict[str, Any]]) -> dict[str, float]:
    """How far the first two runs are apart."""
    ours, theirs = runs[:2]
    pairs = list(zip(ours["first_losses"], theirs["first_losses"], strict=True))
    return {
        "first_loss": abs(pairs[0][0] - pairs[0][1]),
        "largest_of_the_first_losses": max(abs(a - b) for a, b in pairs),
        "test_accuracy": abs(ours["test_accuracy"] - theirs["test_accuracy"]),
    }
