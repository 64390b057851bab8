"""Ctrl-C, a polite kill, a terminal that closes (SIGINT, SIGTERM, SIGHUP): noted, so that a run saves before it ends,
or an end with words.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Self

from approxtrain.errors import InterruptedRun
from approxtrain.run.team import Team

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A context in which the first of these signals is noted in `signal_number`; the second leaves at once.

    Both act within a moment, also while the main thread compiles and runs no handler: a thread of its own reads the
    signals, calls `stopping` at the first one, and leaves at the second as a kill would, with 128 + its number.
    """

    def __init__(self, stopping: Callable[[], None] = lambda: None) -> None:
        self.signal_number: int | None = None
        self._answer = _Answers(stopping)
        self._handling = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handling.enter_context(_handled_by(self._note))
        self._handling.enter_context(_read_by(self._answer))
        return self

    def __exit__(self, *error: object) -> None:
        self._handling.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number

    def due(self, step: int) -> bool:
        """Whether the run is to end after `step` steps. To be asked after each call of the step."""
        return self.signal_number is not None

    def end_run(self, step: int, folder: Path) -> None:
        """InterruptedRun where a signal was noted; the checkpoint of `step` is in place."""
        if self.signal_number is not None:
            raise InterruptedRun(
                self.signal_number,
                f"Stopped by a signal after step {step}, which is saved. {self._on(quote(str(folder)))}",
            )

    def _on(self, folder: str) -> str:
        """How the run goes on."""
        return f"Go on with: approxtrain train --resume {folder}"


class TeamInterruption(Interruption):
    """That of a run of several processes: a SIGTERM to one of them ends all after the same step.

    The signal is jax's; a parent of the process (`run/team/watch.py`) hands the others on as it, and tells of it.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team, self._calls = team, 0

    def __enter__(self) -> Self:
        return self

    def due(self, step: int) -> bool:
        self._calls += 1  # and not steps: jax meets at the next number, which a call of several steps would leave out
        if self._team.stops(self._calls):
            self.signal_number = signal.SIGTERM
        return self.signal_number is not None

    def end_run(self, step: int, folder: Path) -> None:
        if self.signal_number is None:
            return
        self._team.agreed(step)  # nobody leaves before the first process has saved: jax would end it in the middle
        if not self._team.is_first:
            raise InterruptedRun(self.signal_number, f"Stopped with the others after step {step}.")
        super().end_run(step, folder)

    def _on(self, folder: str) -> str:
        return f"To go on start all processes again with --resume {folder}; docs/clusters.md says when one can alone."


class _Answers:
    """What is done about signals as they come in: `stopping` at the first, and at the second an end as by a kill."""

    def __init__(self, stopping: Callable[[], None]) -> None:
        self._stopping, self._told = stopping, False

    def __call__(self, number: int) -> None:
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
def ending(message: str, stopping: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A context in which the first signal ends the work as InterruptedRun with `message`; the second leaves at once.

    For work that loses nothing by it; an `Interruption` inside takes the signals for itself. `stopping` is called at
    the first one within a moment, by another thread, also while the main thread runs no handler.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise InterruptedRun(number, message)

    with _handled_by(end), _read_by(_Answers(stopping)):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals go to `handler`; outside of the main thread, where Python allows none, nothing changes.

    SIGHUP does not where it is ignored, as under `nohup`: then the run is to outlive its terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in HANDLED if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
