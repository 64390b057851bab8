"""Standard output and standard error that may go away under a run: a reader ends, a disk is full, a terminal closes.

A run that takes days does not end with whoever watches it. What cannot be written any more is dropped, and from then on
the descriptor leads to the null device: the interpreter flushes both streams once more when it exits, and would fail.
"""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO, cast


class _Lasting:
    """A stream like another one, but a write that fails ends nothing: the first is told on standard error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _to_nowhere(self._stream)
        tell(f"warning: standard output is gone ({error.strerror}). The run goes on without it.")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lasting() -> TextIO | None:
    """Standard output for a run, which goes on where that can no longer be written; None where there is none."""
    return None if sys.stdout is None else cast(TextIO, _Lasting(sys.stdout))


def tell(text: str) -> None:
    """Write a line to standard error, if that is possible."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(sys.stderr)


def warn(text: str) -> None:
    """A warning on standard error."""
    tell(f"warning: {text}")


def settle() -> None:
    """Have nothing left on standard error that would fail, and change the exit code, when the interpreter exits."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.flush()
    except OSError:
        _to_nowhere(sys.stderr)


def open_closed_descriptors() -> None:
    """Lead those of 0, 1 and 2 that are closed (`>&-`) to the null device.

    The next file that is opened would get the number, and what a library writes to standard error would go into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one


def _to_nowhere(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
