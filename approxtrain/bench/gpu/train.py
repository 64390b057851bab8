"""The same training run by two implementations of `approx`, from the same seed: do they learn the same?

Losses agree at first and then drift apart, as those of any two ways of rounding do. What should agree is where they
end: one seed, so a difference of accuracies says something only where it is large.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain import data, models
from approxtrain.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.config import Config, steps_per_epoch
from approxtrain.dispatch import Dispatch
from approxtrain.evaluate import Evaluator
from approxtrain.models.network import Conv, Network
from approxtrain.schedule import Schedule
from approxtrain.step import set_up

SHOWN = 20
"""First losses that are put side by side."""


def network_by(name: str | None) -> type[Network]:
    """Our network with `approx` by one implementation; the other methods have but one."""

    class Chosen(Conv):
        implementation = name

    class ByChosen(Network):
        conv = Chosen

    return ByChosen


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

    def run(self, implementation: str | None) -> dict[str, Any]:
        """Train by the configuration; losses, accuracy on the test images, seconds."""
        config, keys = self.config, Keys.of(self.config.train.seed)
        task, state = set_up(self.model, config, self.steps, keys.init, network_by(implementation))
        schedule = Schedule.from_config(config.schedule, self.model.layers, self.steps)
        batch, augment = config.train.batch_size, config.train.augment
        dispatch = Dispatch(task, schedule, keys, batch_size=batch, augment=augment, mode="host")
        order_of = jax.jit(epoch_order, static_argnums=2)
        losses, means, step, start = [], [], 0, time.perf_counter()
        for epoch in range(1, config.train.epochs + 1):
            order = order_of(keys.order, jnp.int32(epoch), self.train.labels.shape[0])
            for _ in range(self.steps):
                state, metrics = dispatch(step, state, self.train, order)
                if step < SHOWN:
                    losses.append(metrics.loss)
                step += 1
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


def distance(runs: list[dict[str, Any]]) -> dict[str, float]:
    """How far the first two runs are apart."""
    ours, theirs = runs[:2]
    pairs = list(zip(ours["first_losses"], theirs["first_losses"], strict=True))
    return {
        "first_loss": abs(pairs[0][0] - pairs[0][1]),
        "largest_of_the_first_losses": max(abs(a - b) for a, b in pairs),
        "test_accuracy": abs(ours["test_accuracy"] - theirs["test_accuracy"]),
    }
