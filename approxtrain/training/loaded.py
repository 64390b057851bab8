"""A trained network out of its run's folder, ready to be used.

    run = approxtrain.load_run("runs/mine")          # the best checkpoint by validation; checkpoint="last" the newest
    probabilities = run.predict(images)              # uint8 [N, H, W, C] → float32 [N, classes]
    run.model                                        # the Flax NNX module, with its weights, in evaluation mode

Neither the data set nor the schedule is needed: what normalises the images is in the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from approxtrain import config as configuration
from approxtrain.config import Config
from approxtrain.errors import ConfigError
from approxtrain.models.forward import forward
from approxtrain.run import checkpoint
from approxtrain.run.folder import CHECKPOINTS, CONFIG

BATCH = 500


@dataclass(frozen=True)
class LoadedRun:
    """A network with the weights of one checkpoint of one seed."""

    folder: Path
    config: Config
    step: int
    """Training steps behind these weights."""
    data: dict[str, str]
    """Name and SHA-256 of the images that it was trained on."""
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: np.ndarray
    std: np.ndarray
    arrays: dict[str, np.ndarray]
    """Parameters and statistics by their paths in the module: "stage1/0/conv1/kernel", "stem/norm/mean"."""

    @cached_property
    def model(self) -> nnx.Module:
        """The module, in evaluation mode, computing in the precision of the run."""
        model = self.config.model.network().on(self.image_shape, len(self.class_names))
        network = model.build(rngs=nnx.Rngs(0), dtype=jnp.dtype(self.config.train.precision))
        graph, *states = nnx.split(network, nnx.RngState, ...)
        streams, known = map(nnx.to_pure_dict, states)
        filled = jax.tree_util.tree_map_with_path(
            lambda path, _: jnp.asarray(self.arrays[jax.tree_util.keystr(path, simple=True, separator="/")]), known
        )
        network = nnx.merge(graph, streams, filled)
        network.eval()
        return network

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 `[N, H, W, C]` of the run's size → float32 `[N, classes]`."""
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"`images` must be uint8 [N, {', '.join(map(str, self.image_shape))}], but are {images.dtype} "
                f"{list(images.shape)}."
            )
        parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([np.asarray(self._apply(part)) for part in parts])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The probability of each class: float32 `[N, classes]`."""
        return np.asarray(jax.nn.softmax(self.logits(images)))

    @cached_property
    def _apply(self) -> Any:
        graph, state = nnx.split(self.model)

        @jax.jit
        def apply(images: jax.Array) -> jax.Array:
            x = (images.astype(jnp.float32) - self.mean) / self.std
            return forward(nnx.merge(graph, state, copy=True), x, training=False).astype(jnp.float32)

        return apply


def load_run(folder: str | Path, *, which: Literal["best", "last"] = "best", seed: int | None = None) -> LoadedRun:
    """The network that the run in `folder` has trained.

    `which`: the checkpoint with the best validation, or the newest. `seed`: of a run of several seeds, the first where
    none is given. ConfigError where that is no run folder, CheckpointError where no checkpoint can be used.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        raise ConfigError(f"`{path}` holds no {CONFIG}, so it is not the folder of a run.")
    config = configuration.load(str((path / CONFIG).absolute()))
    seeds = config.train.all_seeds
    if seed is not None and seed not in seeds:
        raise ConfigError(f"the run has the seeds {seeds.start} to {seeds.stop - 1}, and not {seed}.")
    latest = checkpoint.latest_meta(path / CHECKPOINTS)
    best = latest["best"]["step"] if which == "best" and latest and latest["best"] else None
    arrays, meta = checkpoint.load_arrays(path / CHECKPOINTS, best)
    images, place = meta["images"], 0 if seed is None else seeds.index(seed)
    weights = "average/" if config.train.average else "params/"
    of_network = {
        name.removeprefix(prefix): array[place]
        for prefix in (weights, "stats/")
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return LoadedRun(
        folder=path,
        config=config,
        step=int(arrays["step"]),
        data=meta["data"],
        class_names=tuple(images["classes"]),
        image_shape=tuple(images["image_shape"]),
        mean=np.asarray(images["mean"], np.float32),
        std=np.asarray(images["std"], np.float32),
        arrays=of_network,
    )
