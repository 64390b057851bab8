"""What steps see of their images in parts of a run: smaller ones, or larger ones, and only some of each batch.

Progressive resizing begins a run with small images. A batch of which only a share is taken makes as many steps of fewer
images: early in a run, where noise matters least, they cost little (Smith et al., *Don't Decay the Learning Rate,
Increase the Batch Size*, ICLR 2018). A phase of the schedule has one size and one share. Both are static like the mask,
and as pure a function of the step: a column on other images is another column, compiled like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.phases import Phases, cut
from approxtrain.schedule.stamps import Calendar
from approxtrain.schedule.windows import Window, window_at, windows_of


class Seen(NamedTuple):
    """Of its batch by a step."""

    size: int | None = None
    """Rows and columns that the images are brought to; None: as the data has them."""
    share: float = 1.0
    """Of the batch, spread evenly over it: where devices share it, each has as many, and they take the same ones."""

    def count(self, batch: int) -> int:
        """How many images of a batch are taken."""
        return max(1, round(self.share * batch))

    def places(self, batch: int) -> list[int]:
        """Which ones."""
        count = self.count(batch)
        return [number * batch // count for number in range(count)]

    @property
    def text(self) -> str:
        """ "images of 24×24, 0.5 of each batch"; empty where all is seen as it is."""
        parts = [f"images of {self.size}×{self.size}"] if self.size else []
        return ", ".join([*parts, *[f"{self.share:.3g} of each batch"] * (self.share < 1)])


ALL = Seen()
"""The whole batch, as the data has it."""


class Windows(NamedTuple):
    """The parts of a run that have a size or a share."""

    sizes: Sequence[Window] = ()
    shares: Sequence[Window] = ()


def windows(config: ScheduleConfig, calendar: Calendar) -> tuple[Windows, list[str]]:
    """The steps of each size and each share, and what is wrong with them."""
    sizes = [(each.size, each.epochs) for each in config.image_sizes]
    shares = [(each.share, each.epochs) for each in config.image_shares]
    found = windows_of("image_sizes", sizes, calendar), windows_of("image_shares", shares, calendar)
    return Windows(*(each for each, _ in found)), [problem for _, problems in found for problem in problems]


def split(phases: Phases, of: Windows) -> tuple[Phases, tuple[Seen, ...]]:
    """The same phases, cut where what is seen changes, and what each sees."""
    borders = {step for window in (*of.sizes, *of.shares) for step in (window.begin, window.stop) if step is not None}
    parts = cut(phases, borders) if borders else phases
    return parts, tuple(_at(of, first) for first, _ in parts)


def _at(of: Windows, step: int) -> Seen:
    size, share = window_at(of.sizes, step), window_at(of.shares, step)
    return Seen(size and int(size.value), share.value if share else 1.0)
