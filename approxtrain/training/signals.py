"""Ctrl-C and a polite kill: SIGINT and SIGTERM as a flag that the training loop looks at between steps (`loop.py`).

So a run saves before it ends.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

from approxtrain.errors import InterruptedRun


class Interruption:
    """A context in which the first SIGINT or SIGTERM is noted in `signal_number`; the second acts at once.

    Outside of the main thread, where Python allows no handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()  # the handlers from before are back, so a second signal acts at once


@contextlib.contextmanager
def ending(message: str) -> Iterator[None]:
    """A context in which SIGINT and SIGTERM end the work at once, as InterruptedRun with `message`.

    For work that loses nothing by it; an `Interruption` inside takes the signals for itself.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise InterruptedRun(number, message)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
