"""Where a run shows its figures as it goes, besides its own rows: TensorBoard, Weights & Biases, MLflow.

A tracker is a `Listener` that knows the folder of its run. `train.trackers` names those that listen; one of your own is
handed to `Run` as its listener, alone or among `Several`. Imports neither jax nor what a tracker needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from approxtrain.errors import ConfigError
from approxtrain.training.events import Listener

NEEDS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""The trackers there are, each with the package that it needs; `to_NAME` has its `Tracker`."""


class Several(Listener):
    """Tells several listeners all that it is told, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        for name in (name for name in vars(Listener) if not name.startswith("_")):
            setattr(self, name, _all(listeners, name))


def _all(listeners: Sequence[Listener], name: str) -> Callable[..., None]:
    def tell(*values: object) -> None:
        for listener in listeners:
            getattr(listener, name)(*values)

    return tell


def refuse_missing(names: Sequence[str]) -> None:
    """ConfigError where a package is not installed that one of the trackers needs."""
    if missing := [name for name in names if find_spec(NEEDS[name]) is None]:
        raise ConfigError(
            f"`train.trackers`: {', '.join(missing)} is not installed: pip install "
            f"{' '.join('mlflow-skinny' if name == 'mlflow' else NEEDS[name] for name in missing)}, or leave it out."
        )


def trackers(names: Sequence[str], folder: Path, warn: Callable[[str], None]) -> list[Listener]:
    """Those of `train.trackers`, for the run in `folder`; `warn` is told of one that can show nothing any more."""
    refuse_missing(names)
    return [import_module(f"{__name__}.to_{name}").Tracker(folder, warn) for name in names]
