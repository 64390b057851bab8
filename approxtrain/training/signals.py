"""Ctrl-C and a polite kill, SIGINT and SIGTERM: noted, so that a run saves before it ends, or an end with words."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from approxtrain.errors import InterruptedRun

HANDLED = (signal.SIGINT, signal.SIGTERM)
STOPPING = "stopping after this step …; once more leaves at once"


class Interruption:
    """A context in which the first SIGINT or SIGTERM is noted in `signal_number`; the second leaves at once.

    Both are answered within a moment, also while the main thread compiles, when it runs no handler: a thread of its own
    reads the signals, says that the run will stop, and leaves at the second one as a kill would, with 128 + its number.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._handling = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handling.enter_context(_handled_by(self._note))
        self._handling.enter_context(_read_by(_Answer()))
        return self

    def __exit__(self, *error: object) -> None:
        self._handling.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number


class _Answer:
    """What the first signal and what a second one is told."""

    def __init__(self) -> None:
        self.first = True

    def __call__(self, number: int) -> None:
        if number not in HANDLED:
            return
        if not self.first:
            os._exit(128 + number)
        self.first = False
        if sys.stderr is not None:  # closed by who started the program: its number may be another file's
            with contextlib.suppress(OSError, ValueError):
                print(STOPPING, file=sys.stderr, flush=True)


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
