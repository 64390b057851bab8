"""Ctrl-C and a polite kill, SIGINT and SIGTERM: noted, so that a run saves before it ends, or an end with words."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from approxtrain.errors import InterruptedRun

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first SIGINT or SIGTERM is noted in `signal_number`; the second leaves at once.

    Both act within a moment, also while the main thread compiles and runs no handler: a thread of its own reads the
    signals, calls `stopping` at the first one, and leaves at the second as a kill would, with 128 + its number.
    """

    def __init__(self, stopping: Callable[[], None] = lambda: None) -> None:
        self.signal_number: int | None = None
        self._stopping, self._told = stopping, False
        self._handling = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handling.enter_context(_handled_by(self._note))
        self._handling.enter_context(_read_by(self._answer))
        return self

    def __exit__(self, *error: object) -> None:
        self._handling.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number

    def _answer(self, number: int) -> None:
        if number in HANDLED:
            if self._told:
                os._exit(128 + number)
            self._told = True
            self._stopping()


@contextlib.contextmanager
def _read_by(answer: Callable[[int], None]) -> Iterator[None]:
    """A context in which a thread hands the number of each signal to `answer` as it comes in."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def read() -> None:
        while numbers := os.read(reading, 1):
            answer(numbers[0])

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)


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
    before = {number: signal.signal(number, handler) for number in HANDLED}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
