"""A network and images that are small enough to train in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from approxtrain import models
from approxtrain.config import Config
from approxtrain.data import shapes
from approxtrain.models import Model


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 training and 40 test images of `shapes`, reddened by class so that they are soon learnt, in a folder."""
    root = tmp_path_factory.mktemp("pictures")
    train, train_labels, test, test_labels = shapes.draw(200, 40)
    train[..., 0], test[..., 0] = 25 * train_labels[:, None, None], 25 * test_labels[:, None, None]
    files = {f"data_batch_{i + 1}.bin": (train[40 * i :][:40], train_labels[40 * i :][:40]) for i in range(5)}
    for name, (images, labels) in (files | {"test_batch.bin": (test, test_labels)}).items():
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        (root / name).write_bytes(np.concatenate([labels.astype(np.uint8)[:, None], planes], axis=1).tobytes())
    return root


def _small(size: int) -> Model:
    return Model("small", "three convolutions", "tests.networks:Small", image_shape=(size, size, 3))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Three convolutions, and for the length of a test the only network that a configuration can name."""
    model = _small(32)
    monkeypatch.setattr(models, "get", lambda name: model)
    return model


@pytest.fixture(scope="session")
def configure(pictures: Path) -> Callable[..., Config]:
    """`configure({"name": "schedule1"}, epochs=2)`: a run of six steps an epoch on the pictures."""

    def configure(
        schedule: dict[str, Any],
        *,
        model: str = "tests.networks:Small",
        learning_rate: float = 0.01,
        optimizer: dict[str, Any] | None = None,
        **train: Any,
    ) -> Config:
        return Config.model_validate(
            {
                "model": {"target" if ":" in model else "name": model},
                "data": {"name": "pictures", "dir": str(pictures)},
                "train": {"epochs": 3, "batch_size": 32, "validate_every": 2, **train},
                "optimizer": {"learning_rate": learning_rate, "decay": 0.8, **(optimizer or {})},
                "schedule": schedule,
            }
        )

    return configure


class Bench(NamedTuple):
    """Training steps that are ready to be called: `dispatch(step, state, images, order)`."""

    dispatch: Any
    state: Any
    images: Any
    order: Any

    def run(self, steps: int) -> tuple[list[Any], list[float]]:
        """The state before the first step and after each call, until `steps` steps are taken; and their losses, which
        are numbers of one seed, and lists of several."""
        import jax
        import jax.numpy as jnp

        state, states, losses = self.state, [jax.tree.map(np.asarray, self.state)], []
        step = 0
        while step < steps:
            # a call consumes its state
            state, metrics = self.dispatch(step, jax.tree.map(jnp.copy, state), self.images, self.order)
            states.append(jax.tree.map(np.asarray, state))
            taken = self.dispatch.span(step)
            found = np.asarray(metrics.loss).reshape(taken, -1)  # [steps, seeds]
            losses += (found[:, 0] if found.shape[1] == 1 else found).tolist()
            step += taken
        return states, losses


@pytest.fixture
def assemble(configure: Callable[..., Config]) -> Callable[..., Bench]:
    """`assemble(model, {"name": "full"}, mode="host", seed=0)`: on 200 random images, six steps an epoch.

    Of several seeds with seeds=2, seeds_by="map".
    """

    def assemble(model: Model, schedule: dict[str, Any], *, mode: str = "host", **train: Any) -> Bench:
        import jax
        import jax.numpy as jnp

        from approxtrain.schedule import Schedule
        from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
        from approxtrain.training.dispatch import Dispatch
        from approxtrain.training.step import set_up

        config = configure(schedule, **train)
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (200, *model.image_shape), dtype=np.uint8)
        labels = rng.integers(0, 10, 200).astype(np.int32)
        batch = config.train.batch_size
        steps = len(labels) // batch
        keys = Keys.of(config.train.all_seeds)
        task, state = set_up(model, config, steps, keys.init)
        table = Schedule.from_config(config.schedule, model.layers, steps)
        dispatch = Dispatch(task, table, keys, config.train, mode=mode)
        images = Images(*map(jnp.asarray, (pixels, labels, *channel_statistics(pixels))))
        order = jax.jit(epoch_order, static_argnums=2)(keys.order, jnp.int32(1), len(labels))
        return Bench(dispatch, state, images, order)

    return assemble


@pytest.fixture(scope="session")
def pocket() -> Model:
    """The same three convolutions for images of 8×8: compiled soonest."""
    return _small(8)
