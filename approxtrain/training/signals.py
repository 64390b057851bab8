"""Ctrl-C and a polite kill, SIGINT and SIGTERM: noted, so that a run saves before it ends, or an end with words."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from approxtrain.errors import InterruptedRun


class Interruption:
    """A context in which the first SIGINT or SIGTERM is noted in `signal_number`; the second acts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._handling = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handling.enter_context(_handled_by(self._note))
        return self

    def __exit__(self, *error: object) -> None:
        self._handling.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._handling.close()  # the handlers from before are back, so a second signal acts at once


@contextlib.contextmanager
def ending(message: str) -> Iterator[None]:
    """A context in which SIGINT and SIGTERM end the work at once, as InterruptedRun with `message`.

    For work that loses nothing by it; an `Interruption` inside takes the signals for itself.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise InterruptedRun(number, message)

    with _handled_by(end):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Both signals go to `handler`; outside of the main thread, where Python allows none, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
