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
from approxtrain.errors import CheckpointError, ConfigError
from approxtrain.models import Model
from approxtrain.models.forward import forward
from approxtrain.models.target import in_own_code
from approxtrain.run import checkpoint
from approxtrain.run.facts import latest, of_meta
from approxtrain.run.folder import CHECKPOINTS, CONFIG
from approxtrain.run.team import ALONE
from approxtrain.training import saving

BATCH = 500
FIRST = 3
"""How many arrays that differ are named."""


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
    warnings: tuple[str, ...] = ()
    """What speaks against its being the network that was trained."""

    @property
    def network(self) -> Model:
        """The class, for the images of the run."""
        return self.config.model.network().on(self.image_shape, len(self.class_names))

    @cached_property
    def model(self) -> nnx.Module:
        """The module, in evaluation mode, computing in the precision of the run."""
        network = self.network.build(rngs=nnx.Rngs(0), dtype=jnp.dtype(self.config.train.precision))
        graph, *states = nnx.split(network, nnx.RngState, ...)
        streams, known = map(nnx.to_pure_dict, states)
        filled = jax.tree_util.tree_map_with_path(lambda path, _: jnp.asarray(self.arrays[_name(path)]), known)
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
            with in_own_code(f"`model`: {self.network.target} cannot be called on {len(images)} images"):
                return forward(nnx.merge(graph, state, copy=True), x, training=False).astype(jnp.float32)

        return apply


def load_run(folder: str | Path, *, which: Literal["best", "last"] = "best", seed: int | None = None) -> LoadedRun:
    """The network that the run in `folder` has trained.

    `which`: the checkpoint with the best validation, or the newest. `seed`: of a run of several seeds, the first where
    none is given. ConfigError where that is no run folder, CheckpointError where no checkpoint can be used.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        what = "it is a file, and a run has a folder" if path.is_file() else f"it holds no {CONFIG}"
        raise ConfigError(f"`{path}` is not the folder of a run: {what}.")
    config = configuration.load(str((path / CONFIG).absolute()))
    seeds = config.train.all_seeds
    if seed is not None and seed not in seeds:
        raise ConfigError(f"the run has the seeds {seeds.start} to {seeds.stop - 1}, and not {seed}.")
    newest = latest(path / CHECKPOINTS)
    best = newest.best["step"] if which == "best" and newest and newest.best else None
    arrays, meta = checkpoint.load_arrays(path / CHECKPOINTS, best)
    facts, _ = of_meta(meta, path / CHECKPOINTS)
    images, place = facts.images, 0 if seed is None else seeds.index(seed)
    weights = "average/" if config.train.average else "params/"
    of_network = {
        name.removeprefix(prefix): array[place]
        for prefix in (weights, "stats/")
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    saving.find_own_code(ALONE, facts)
    warnings = []
    if changed := saving.changed_network(facts, config.model.target, saving.origins_of(config, ("model",))):
        warnings.append(f"The source of {changed} has changed since the network was trained: it may compute otherwise.")
    height, width, channels = images["image_shape"]
    run = LoadedRun(
        folder=path,
        config=config,
        step=int(arrays["step"]),
        data=facts.data,
        class_names=tuple(images["classes"]),
        image_shape=(height, width, channels),
        mean=np.asarray(images["mean"], np.float32),
        std=np.asarray(images["std"], np.float32),
        arrays=of_network,
        warnings=tuple(warnings),
    )
    _refuse_another_network(run)
    return run


def _refuse_another_network(run: LoadedRun) -> None:
    """CheckpointError where the arrays are not those of the network that the configuration names now."""
    shell = run.network.shell(jnp.dtype(run.config.train.precision))
    _, _, state = nnx.split(shell, nnx.RngState, ...)
    known = nnx.to_pure_dict(state)
    wanted = {_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(known)}
    stored = {name: array.shape for name, array in run.arrays.items()}
    differ = [name for name in sorted(wanted.keys() | stored.keys()) if wanted.get(name) != stored.get(name)]
    if differ:
        listed = "; ".join(
            f"{name} is {_shape(stored.get(name))} there, and {_shape(wanted.get(name))} in the network"
            for name in differ[:FIRST]
        )
        more = f"; and {len(differ) - FIRST} more" if len(differ) > FIRST else ""
        raise CheckpointError(
            f"The checkpoint of step {run.step} in `{run.folder}` is of another network than {run.network.target} "
            f"makes now: {listed}{more}. Bring back the source that the run was trained with."
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
