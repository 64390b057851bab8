"""What the training loop tells whoever listens; the command line draws its progress from it. Imports no jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is about to be trained."""

    model: str
    layers: int
    data: str
    train_images: int
    validation_images: int
    validation: str
    """Where they come from: "test" or "holdout"."""
    schedule: str
    columns: int
    """Distinct columns, each of which is compiled once."""
    shares: Mapping[str, float]
    """Method → its share of the cells of the whole run."""
    seeds: Sequence[int]
    """Trained at once, in one program."""
    batch_size: int
    epochs: int
    total_steps: int
    step: int
    """Steps finished: 0, or those of the checkpoint that the run goes on from."""


class Listener:
    """What the loop tells as it goes. Override what is of interest."""

    def begin(self, start: Start) -> None:
        """Everything is checked, and the data is on the device."""

    def compiling(self, first: int, last: int, total: int, steps: int) -> None:
        """Columns `first` to `last` of `total`, in order of use, are about to be compiled, which takes seconds.

        A call of the program takes `steps` steps.
        """

    def compiling_probe(self, cells: int) -> None:
        """The probe of that many approximated layers is about to be compiled (`train.probe_every`)."""

    def compiled(self, seconds: float) -> None:
        """They are."""

    def measured(self, text: str) -> None:
        """A choice was made by a measurement on this device: what, and by which times."""

    def step(self, step: int, losses: Sequence[float]) -> None:
        """`step` steps are finished; `losses` are those of the last one, one for each seed."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended: its metrics and times, with `validation_accuracy` where it was validated.

        Of several seeds loss and accuracies are means, and `loss_sd`, `accuracy_sd` … their standard deviations.
        """

    def warn(self, message: str) -> None:
        """Something that the user should know, and that does not stop the run."""
