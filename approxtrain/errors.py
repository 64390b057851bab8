"""Errors that are a user's to mend. Each message says what happened, why, and what to do; no traceback is shown.

The exit codes are part of the command line's contract.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ApproxtrainError(Exception):
    """Base of the errors that the command line prints as one message."""

    exit_code = 1


class ConfigError(ApproxtrainError):
    """One or more problems of a configuration, all of them reported at once."""

    exit_code = 2

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(ApproxtrainError):
    """The data set is missing, damaged, or not what its name says."""

    exit_code = 3


class DivergedError(ApproxtrainError):
    """The loss or a parameter is no longer finite, because of step `step`: the first step of a run is 1.

    `loss` is the non-finite loss; None where it is a parameter.
    """

    exit_code = 4

    def __init__(self, message: str, step: int, loss: float | None = None) -> None:
        super().__init__(message)
        self.step, self.loss = step, loss


class CheckpointError(ApproxtrainError):
    """No checkpoint of the run can be used, or the rows are not those that it vouches for."""

    exit_code = 5


class DiskError(ApproxtrainError):
    """A file of the run cannot be written."""

    exit_code = 6


class LockedError(ApproxtrainError):
    """Another process is writing to the run folder."""

    exit_code = 7


class VerificationError(ApproxtrainError):
    """A step that was computed twice from the same state came to different bits, so the machine is at fault."""

    exit_code = 8


class MemoryShortError(ApproxtrainError):
    """The memory of the machine or of its device did not suffice."""

    exit_code = 9


class LostError(ApproxtrainError):
    """Another process of the run was lost. The code is EX_TEMPFAIL of <sysexits.h>: a restart goes on."""

    exit_code = 75


class RefusedError(ApproxtrainError):
    """What the first process of a run told the others, and ends with as well."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(f"Process 0: {message}")
        self.exit_code = exit_code


class InterruptedRun(ApproxtrainError):
    """A signal ended the run after its state was saved. The exit code is 128 + the signal's number, as in a shell."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def suggestion(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest of `known`, and nothing where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
