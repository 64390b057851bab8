"""What the training loop tells whoever listens; the command line draws its progress from it. Imports no jax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from approxtrain.train import Run


class Listener:
    """What the loop tells as it goes. Override what is of interest."""

    def begin(self, run: Run, step: int) -> None:
        """The data is on the device; the run starts or goes on after `step` finished steps."""

    def compiling(self, number: int, total: int) -> None:
        """Program `number` of `total` is about to be compiled, which takes seconds."""

    def step(self, step: int, loss: float) -> None:
        """`step` steps are finished; `loss` is the last one's."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended: its metrics and times, with `validation_accuracy` where it was validated."""

    def warn(self, message: str) -> None:
        """Something that the user should know, and that does not stop the run."""
