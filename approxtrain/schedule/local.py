"""Local SGD: for some steps each replica updates a copy of its own, and then all take the mean of their copies.

Of an epoch's steps, where replicas are local for `every` = 4 of them:

    step of the epoch     1    2    3    4    5    6    7    8    9    10 (the last)
    sent at its end       –    –    –    all  –    –    –    all  –    all

"All" is the whole state: weights, statistics and the moments of the optimiser. So after each outer step, and so at the
end of each epoch, the copies are equal, and there is one state to validate and to save. Between them nothing is sent:
batch norm looks at a replica's own images. A pure function of the step, like the mask.

    Stich, Local SGD converges fast and communicates little (ICLR 2019)
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.stamps import Calendar
from approxtrain.schedule.windows import Window, window_at, windows_of


class Sharing(Enum):
    """What the replicas send each other at the end of a step."""

    GRADIENTS = "gradients"
    NOTHING = "nothing"
    STATE = "state"


class Local(NamedTuple):
    """When which of them is sent."""

    windows: tuple[Window, ...] = ()
    """Whose value is `every`."""
    steps_per_epoch: int = 1

    def at(self, step: int) -> Sharing:
        if (window := window_at(self.windows, step)) is None:
            return Sharing.GRADIENTS
        place = step % self.steps_per_epoch + 1
        last = place == self.steps_per_epoch or step + 1 == window.stop
        return Sharing.STATE if last or place % window.value == 0 else Sharing.NOTHING

    def equal_after(self, steps: int) -> bool:
        """Whether the copies of the replicas are, after so many steps."""
        return not steps or self.at(steps - 1) is not Sharing.NOTHING

    def outer_steps(self, stop: int) -> int:
        """How many steps s < stop end with the mean of the copies."""
        return sum(self._outer(window, stop) for window in self.windows if window.begin < stop)

    def _outer(self, window: Window, stop: int) -> int:
        every = int(window.value)

        def before(step: int) -> int:
            epochs, place = divmod(step, self.steps_per_epoch)
            return epochs * -(-self.steps_per_epoch // every) + place // every

        end = stop if window.stop is None else min(stop, window.stop)
        cut = end == window.stop and end % self.steps_per_epoch % window.value > 0  # it ends within a round
        return before(end) - before(window.begin) + cut

    @property
    def kinds(self) -> tuple[Sharing, ...]:
        """Those that may occur."""
        begins, stops = ([window[end] for window in self.windows] for end in (0, 1))
        throughout = [*begins, None] == [0, *stops]  # each begins where the one before it stops, and the last never
        some = any(window.value > 1 for window in self.windows)
        there = {Sharing.GRADIENTS: not throughout, Sharing.NOTHING: some, Sharing.STATE: bool(self.windows)}
        return tuple(kind for kind, occurs in there.items() if occurs)


NEVER = Local()


def local_steps(config: ScheduleConfig, calendar: Calendar, replicas: int) -> tuple[Local, list[str]]:
    """Of a `[schedule]` section, and what is wrong with it."""
    if not config.local:
        return NEVER, []
    windows, problems = windows_of("local", [(each.every, each.epochs) for each in config.local], calendar)
    if replicas == 1:
        problems.append(
            "`schedule.local`: it is for several devices, which have copies of their own, and the run has one: say how "
            "many, such as parallel.devices=4, or leave it out."
        )
    return Local(tuple(windows), calendar.steps_per_epoch), problems
