"""The parent of a process that trains with others: it says in a sentence how its child ended, whatever ended it.

jax ends a process whose partner is lost by abort(), in the middle of a step, where Python runs no handler. So the
process that trains is the child of one that imports no jax, hands signals on to it, and ends with

    the child's exit code   where it ended by itself
    75                      where it or another one was lost: a restart goes on (EX_TEMPFAIL)
    2                       where the processes have not found each other: a restart would not either

The child has a session of its own, so that a terminal's Ctrl-C comes to the parent alone, and ends with the parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from types import FrameType

LOST, USAGE = 75, 2
ALONE = "The processes have not met."
MEMBER = "APPROXTRAIN_TEAM_MEMBER"
"""Set in the environment of the child, and to be inherited by nobody else: the parent's number, the descriptor by which
it is told that the child has met the others, a folder that goes with the parent."""
_GIVEN = os.environ.pop(MEMBER, "").split(":", 2)
_PARENT = _GIVEN[0]
_PR_SET_PDEATHSIG = 1


def is_member() -> bool:
    """Whether this process is such a child."""
    return bool(_PARENT)


def has_met() -> None:
    """Of the child: tell the parent that all processes have found each other."""
    if is_member():
        os.write(int(_GIVEN[1]), b"1")
        os.close(int(_GIVEN[1]))


def scratch() -> str | None:
    """Of the child: a folder that its parent removes when it ends, however the child does."""
    return _GIVEN[2] if is_member() else None


def watched(command: Sequence[str], tell: Callable[[str], None], alone: str = ALONE) -> int:
    """Run the command as a child to its end. → the exit code to end with. `alone`: what is said where the child has
    never met the others."""
    with tempfile.TemporaryDirectory(prefix="approxtrain-") as folder:
        return _watched(command, tell, alone, folder)


def _watched(command: Sequence[str], tell: Callable[[str], None], alone: str, folder: str) -> int:
    signals: list[int] = []
    hears, tells = os.pipe()
    os.set_blocking(hears, False)
    met = False

    def has_met() -> bool:
        nonlocal met  # a signal may come in between, and must not be forgotten
        with contextlib.suppress(BlockingIOError):
            if os.read(hears, 1):
                met = True
        return met

    def hand_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1 or not has_met():
            child.kill()
            if len(signals) == 1:
                tell("Stopped by a signal, before the processes had met. Nothing was begun.")
            for _ in range(20):  # the child may still write
                shutil.rmtree(folder, ignore_errors=True)
                if not os.path.exists(folder):
                    break
                time.sleep(0.05)
            os._exit(128 + number)
        tell("stopping after this step, all processes; once more leaves at once")
        child.send_signal(signal.SIGTERM)  # the signal that jax' processes tell each other of

    given = {MEMBER: f"{os.getpid()}:{tells}:{folder}"}
    child = subprocess.Popen(command, env=os.environ | given, start_new_session=True, pass_fds=(tells,))
    os.close(tells)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hand_on)
    code = child.wait()
    if signals and code in (128 + signal.SIGTERM, -signal.SIGTERM):  # the latter before it had a handler
        return 128 + signals[0]
    if code >= 0:
        return code
    if code == -signal.SIGABRT and not has_met():
        tell(f"error: {alone}")
        return USAGE
    tell(f"error: {ended_by(-code)} What was saved stays: start all processes again with --resume DIR.")
    return LOST


def ended_by(number: int) -> str:
    """A sentence on a child that a signal has ended."""
    if number == signal.SIGABRT:
        return (
            "Another process of the run was lost, or does not answer (killed, out of memory, cut off), or jax has "
            "stopped this one: process-I.log says which."
        )
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    more = ": perhaps the machine had no memory left" if number == signal.SIGKILL else ""
    return f"The process was ended by {name}{more}."


def end_with_parent() -> None:
    """Of the child: be killed when the parent is. Linux alone can."""
    if sys.platform != "linux" or not _PARENT:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(_PARENT):  # it has ended already
        os._exit(LOST)
