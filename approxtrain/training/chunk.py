"""How many steps one call of the compiled program takes, where the configuration leaves that open (`train.chunk`).

A call costs some time, on a GPU, where small steps are bound by it, more than on a CPU. `chunk` steps in one call pay
it once. The rule needs the time of a step, so a run takes single steps in its first epoch. At the end of that the
number is decided, once in the life of the run, and noted in its folder: a resumed run repeats the bits only if it
groups its steps as before.
"""

from __future__ import annotations

CALL = 1.0
"""The longest that a call may last, in seconds: a signal waits for it, and for one more that is on its way."""
MOST = 64
"""Steps a call: a cost that is paid once in 64 steps is as good as none."""
SHORT = 600.0
"""Seconds of steps that must be left, so that they earn back the compiling of a second program."""


def steps_a_call(step_seconds: float, steps_per_epoch: int, steps_left: int) -> int:
    """The largest power of two of steps that last at most CALL, fit into an epoch and are at most MOST.

    1 where that is none, and where the rest of the run is short.
    """
    if step_seconds * steps_left < SHORT:
        return 1
    most = min(MOST, steps_per_epoch, int(CALL / step_seconds))
    return 1 << max(most.bit_length() - 1, 0)
