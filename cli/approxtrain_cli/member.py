"""`approxtrain train` as one of several processes: the parent that watches it, and what it does as the child."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from approxtrain.errors import ConfigError, InterruptedRun, LostError
from approxtrain.run.team import watch
from approxtrain.run.team.join import START, Place, connect, could_not_meet, join, place, refuse_a_taken_port
from approxtrain.run.team.team import Team
from approxtrain_cli import output

GRACE = 1.5
"""Seconds that the first process waits before it ends, so that the others end before it and can tell why."""
_STATUS = re.compile(r"\b(UNKNOWN|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|INTERNAL|FAILED_PRECONDITION): ")
"""What an error of XLA or of jax's runtime has in it, and none of a user's network."""
_OF_PARTNERS = ("Gloo", "NCCL", "collective", "oordination", "eartbeat", "DEADLINE_EXCEEDED", "UNAVAILABLE", "barrier")


def asked_for(coordinator: str | None, count: int | None, number: int | None, *, distributed: bool) -> Place | bool:
    """Where the processes meet; True where jax is to find that; False where the program trains alone."""
    where = place(coordinator, count, number)
    if where and distributed:
        raise ConfigError("--distributed and --coordinator exclude each other: jax finds the processes, or you say.")
    return where or distributed


def watched(where: Place | bool) -> int:
    """The same command in a child of this process, which watches it. → the exit code."""
    known = where if isinstance(where, Place) else None
    if known and known.number == 0:
        refuse_a_taken_port(known)
    which = f"process {known.number} of {known.count}: " if known else ""
    output.tell(f"{which}waiting for the others{f' at {known.coordinator}' if known else ''}, {START // 60} minutes …")
    command = [sys.executable, "-m", "approxtrain_cli", *sys.argv[1:]]
    return watch.watched(command, output.tell, could_not_meet(known))


def train(where: Place | bool, work: Callable[[Team, Log], None]) -> None:
    """In the child: do `work` together with the other processes."""
    watch.end_with_parent()
    log, team = Log(), None
    try:
        team = join(where if isinstance(where, Place) else None)
        watch.has_met()
        connect(team)
        work(team, log)
        # Nobody leaves before all are through, and last the first one, with whom the others' runtime ends. jax's own
        # end would wait for a quarter of an hour where a SIGTERM came in the last second.
        team.agreed(None)
        if team.is_first:
            time.sleep(GRACE)
    except InterruptedRun:
        if team is not None and team.is_first:
            time.sleep(GRACE)
        raise
    except Exception as error:
        log.speak()
        if is_of_partners(error):
            raise LostError(
                "Another process of the run was lost, or does not answer. What was saved stays: start all processes "
                f"again with --resume DIR. ({str(error).partition(chr(10))[0]})"
            ) from error
        if team is not None and team.is_first:
            time.sleep(GRACE)
        raise


def leave(code: int) -> None:
    """End this process at once, where it is one of several: jax's own end would wait for the others."""
    if watch.is_member():
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def is_of_partners(error: Exception) -> bool:
    """Whether jax's runtime says that another process is not there any more."""
    text = str(error)
    of_runtime = isinstance(error, ValueError | RuntimeError) and _STATUS.search(text) is not None
    return of_runtime and "RESOURCE_EXHAUSTED" not in text and any(word in text for word in _OF_PARTNERS)


class Log:
    """What jax's runtime prints goes to a file, and Python's own output to where it went, until `keep` says other."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            stream.flush()
            kept = os.fdopen(os.dup(descriptor), "w", encoding=stream.encoding, errors="replace", buffering=1)
            setattr(sys, name, kept)
            os.dup2(self._file.fileno(), descriptor)
        self._terminal = sys.stderr

    def speak(self) -> None:
        """Python's standard error goes to where it went at first again."""
        sys.stderr = self._terminal

    def keep(self, path: Path, *, everything: bool) -> None:
        """From here on in the file at `path`; `everything`: Python's own output as well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file.seek(0)
        before = self._file.read()
        self._file = path.open("ab")
        self._file.write(before)
        self._file.flush()
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            os.dup2(self._file.fileno(), descriptor)
            if everything:
                setattr(sys, name, os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace", buffering=1))
