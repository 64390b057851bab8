"""What all trackers share: figures under names, a hundred losses an epoch, and the name of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from approxtrain.errors import ApproxtrainError, ConfigError
from approxtrain.training.events import Listener
from approxtrain.training.workload import Workload

OFTEN = 100
"""Losses of single steps that are shown of an epoch, at most."""
_SERIES = ("layer", "method", "seed")
_NO_FIGURE = ("step", "epoch", *_SERIES)


class Tracker(Listener):
    """Override `log`; `open` and `end` where something is to be opened and closed.

    Of a row the figures are `kind/name`, of one that bears a layer with its method, or a seed,
    `kind/name/layer_2/method_approx/seed_3`; the loss of a single step is `step/loss`, of several seeds
    `step/loss/seed_3`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, work: Workload, step: int) -> None:
        """Be ready for the figures of a run of which `step` steps are finished."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Show these figures, by their names, after `step` steps."""
        raise NotImplementedError

    def begin(self, work: Workload, step: int) -> None:
        self.seeds = work.config.train.all_seeds
        self.every = max(1, work.steps_per_epoch // OFTEN)
        try:
            self.open(work, step)
        except ApproxtrainError:
            raise
        except Exception as error:  # whatever a service's own package raises: no account, no address, no network
            raise ConfigError(
                f"`train.trackers`: {type(self).__module__.rpartition('.to_')[2]} cannot be used: {error} "
                "Leave it out, or mend that; what was trained is kept."
            ) from error

    def row(self, row: Mapping[str, Any]) -> None:
        series = "".join(f"/{name}_{row[name]}" for name in _SERIES if name in row)
        figures = {
            f"{row['kind']}/{name}{series}": float(value)
            for name, value in row.items()
            if name not in _NO_FIGURE and isinstance(value, int | float)
        }
        self.log(figures, row["step"])

    def step(self, step: int, losses: Sequence[float]) -> None:
        if step % self.every == 0:
            of = [f"/seed_{seed}" for seed in self.seeds] if len(self.seeds) > 1 else [""]
            self.log({f"step/loss{each}": loss for each, loss in zip(of, losses, strict=True)}, step)
