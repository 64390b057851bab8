"""What the training loop tells whoever listens: the progress on a terminal, TensorBoard and its like (`trackers`), or a
listener of your own, handed to `Run`. Imports no jax.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from approxtrain.training.workload import Workload

if TYPE_CHECKING:
    from approxtrain.training.step import TrainState


class Listener:
    """What the loop tells as it goes. Override what is of interest."""

    def begin(self, work: Workload, step: int) -> None:
        """Everything is checked, and the data is on the device.

        `step` steps are finished: 0, or those of the checkpoint that the run goes on from.
        """

    def compiling(self, first: int, last: int, total: int, steps: int) -> None:
        """Columns `first` to `last` of `total`, in order of use, are about to be compiled, which takes seconds.

        A call of the program takes `steps` steps.
        """

    def compiling_probe(self, cells: int) -> None:
        """The probe of that many approximated layers is about to be compiled (`train.probe_every`)."""

    def compiled(self, seconds: float) -> None:
        """Compiling took `seconds`."""

    def step(self, step: int, losses: Sequence[float]) -> None:
        """`step` steps are finished; `losses` are those of the last one, one for each seed."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl is written: of `kind` train, validation or probe, after `step` steps."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended: its metrics and times, with `validation_accuracy` where it was validated.

        Of several seeds loss and accuracies are means, and `loss_sd`, `accuracy_sd` … their standard deviations.
        """

    def state(self, epoch: int, state: TrainState) -> None:
        """After `epoch` epochs, all of it saved, the run goes on from `state`: told once at the start, and after each
        epoch. The next step consumes its arrays, so copy what is to be kept.
        """

    def warn(self, message: str) -> None:
        """Something that the user should know, and that does not stop the run."""

    def stopping(self) -> None:
        """A signal has come: the run saves after the step that it is at, and ends. Told by another thread."""

    def end(self, finished: bool) -> None:
        """The run ends, at its last step or before: interrupted, diverged, for want of disk. Told once `begin` was."""


@contextmanager
def told(listener: Listener, work: Workload, step: int) -> Iterator[None]:
    """A context that tells of its begin and of its end."""
    listener.begin(work, step)
    finished = False
    try:
        yield
        finished = True
    finally:
        listener.end(finished)
