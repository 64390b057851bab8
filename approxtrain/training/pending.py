"""Steps between the host and the device: looked at late, so that neither waits for the other, and timed on the way."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np

from approxtrain.training.step import StepMetrics


class PendingCalls:
    """Calls that were handed to the device, of one step or several, and whose losses have not been looked at.

    Looking at a loss waits for its step, so it is done a few steps late: the device always has work, and yet a signal
    or a loss that is not finite is seen soon. On a CPU, where steps are long, two steps late; with calls of two steps
    or more, one call late.
    """

    def __init__(
        self, finished: Callable[[int, list[float], float | None, np.ndarray | None], None], chunk: int = 1
    ) -> None:
        """`finished(step, losses, seconds, not_finite)` is told of each step, with one loss a seed. Steps of one call
        share its time equally; `seconds` is None where that means nothing, and `not_finite` `[seeds, places]` where it
        is not looked at.
        """
        self._finished = finished
        self._depth = max(1, (2 if jax.default_backend() == "cpu" else 16) // chunk)
        self._waiting: deque[tuple[int, int, StepMetrics, bool]] = deque()
        self._last = time.perf_counter()
        self.paused_seconds = 0.0

    def add(self, step: int, steps: int, metrics: StepMetrics, *, timed: bool) -> None:
        """A call of `steps` steps that begins at `step`. `timed` is False where something was compiled before it: no
        time of a pending call then means anything.
        """
        if not timed:
            self._waiting = deque((*call[:3], False) for call in self._waiting)
        self._waiting.append((step, steps, metrics, timed))
        while len(self._waiting) > self._depth:
            self._look()

    def drain(self) -> None:
        """Look at all of them."""
        while self._waiting:
            self._look()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look at all of them first; what is done then, such as the saving of a checkpoint, is no step's time."""
        self.drain()
        begin = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self.paused_seconds += self._last - begin

    def _look(self) -> None:
        step, steps, metrics, timed = self._waiting.popleft()
        losses = np.asarray(metrics.loss).reshape(steps, -1)  # [steps, seeds]
        flags = None if metrics.not_finite is None else np.asarray(metrics.not_finite).reshape(*losses.shape, -1)
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        for offset, of_step in enumerate(losses.tolist()):
            its_flags = None if flags is None else flags[offset]
            self._finished(step + offset, of_step, elapsed / steps if timed else None, its_flags)


def spread(values: list[float]) -> dict[str, float | int]:
    """Mean, median, quartiles, and how many there are. Where steps differ by column, the mean is what one costs."""
    if len(values) < 2:
        return {"n": len(values)} | ({"median": values[0], "mean": values[0]} if values else {})
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "mean": statistics.fmean(values), "q1": low, "q3": high, "n": len(values)}
