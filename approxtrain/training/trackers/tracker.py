"""What all trackers share: figures under names, a hundred losses an epoch, and the name of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    forgiven: tuple[type[Exception], ...] = (OSError,)
    """What may go wrong in `log` without an end of the run, which goes on without this tracker: a full disk, a network.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        """Of the run in `folder`; `warn` is told where it can show nothing any more."""
        self.folder = folder
        self._warn, self._gone = warn, False

    @property
    def _name(self) -> str:
        return type(self).__module__.rpartition(".to_")[2]

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
                f"`train.trackers`: {self._name} cannot be used: {error} "
                "Leave it out, or mend that; what was trained is kept."
            ) from error

    def row(self, row: Mapping[str, Any]) -> None:
        series = "".join(f"/{name}_{row[name]}" for name in _SERIES if name in row)
        figures = {
            f"{row['kind']}/{name}{series}": float(value)
            for name, value in row.items()
            if name not in _NO_FIGURE and isinstance(value, int | float)
        }
        self._show(figures, row["step"])

    def step(self, step: int, losses: Sequence[float]) -> None:
        if step % self.every == 0:
            of = [f"/seed_{seed}" for seed in self.seeds] if len(self.seeds) > 1 else [""]
            self._show({f"step/loss{each}": loss for each, loss in zip(of, losses, strict=True)}, step)

    def give_up(self, error: Exception) -> None:
        """Show nothing any more, and say so once."""
        if not self._gone:
            self._gone = True
            self._warn(f"{self._name} shows nothing any more: {error}. The run goes on without it.")

    def _show(self, figures: Mapping[str, float], step: int) -> None:
        if self._gone:
            return
        try:
            self.log(figures, step)
        except self.forgiven as error:
            self.give_up(error)
