"""The parent of a process that trains with others: it says in a sentence how its child ended, whatever ended it.

jax ends a process whose partner is lost by abort(), in the middle of a step, where Python runs no handler. So the
process that trains is the child of one that imports no jax, hands signals on to it, and ends with

    the child's exit code   where it ended by itself
    75                      where it or another one was lost: a restart goes on (EX_TEMPFAIL)

The child has a session of its own, so that a terminal's Ctrl-C comes to the parent alone, and ends with the parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

LOST = 75
MEMBER = "APPROXTRAIN_TEAM_MEMBER"
"""Set in the environment of the child, and to be inherited by nobody else."""
_PARENT = os.environ.pop(MEMBER, None)
_PR_SET_PDEATHSIG = 1


def is_member() -> bool:
    """Whether this process is such a child."""
    return _PARENT is not None


def watched(command: Sequence[str], tell: Callable[[str], None]) -> int:
    """Run the command as a child to its end. → the exit code to end with."""
    signals: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            child.kill()
            os._exit(128 + number)
        tell("stopping after this step, all processes; once more leaves at once")
        child.send_signal(signal.SIGTERM)  # the signal that jax' processes tell each other of

    child = subprocess.Popen(command, env=os.environ | {MEMBER: str(os.getpid())}, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hand_on)
    code = child.wait()
    if signals and code in (128 + signal.SIGTERM, -signal.SIGTERM):  # the latter before it had a handler
        return 128 + signals[0]
    if code >= 0:
        return code
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
    if sys.platform != "linux" or _PARENT is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(_PARENT):  # it has ended already
        os._exit(LOST)
