"""Table 1 on this device: one convolution at a time, checked, then timed with cold and with hot caches.

A contender that is wrong is not timed; where it is the subject of the row, or our own exact form, nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from approxtrain.bench import kernel_contenders, torch_peer
from approxtrain.bench.exactness import Gate
from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_clock import Clock, Loop, Sample, TimedCall, UnseenError, take_turns
from approxtrain.bench.kernel_contenders import Inputs, KernelContender
from approxtrain.bench.kernel_report import KernelTimes, kernel_row
from approxtrain.bench.machine import Machine

MOST_SETS = 1024


@dataclass(frozen=True)
class KernelBench:
    """Checks and times cases on a machine."""

    machine: Machine
    make_clock: Callable[[], Clock]
    rounds: int

    def row(self, case: Case, seed: int) -> dict[str, Any]:
        """A row of the JSON. Inputs are drawn by `seed` and the next one."""
        timed = kernel_contenders.draw(case, seed)
        contenders = [*kernel_contenders.programs(case), *torch_peer.peers(case)]
        gate = Gate(case, seed + 1)
        right = [contender for contender in contenders if gate.check(contender, timed)]
        measured: list[KernelTimes] = []
        if _worth_timing({each.name for each in right}, {each.name for each in contenders}):
            measured = list(self._measure(case, right, timed))
            still_right = [gate.check_again(contender) for contender in right]
            measured = measured if all(still_right) else []
        return kernel_row(case, gate.errors, [each.name for each in contenders if not gate.right(each.name)], measured)

    def _measure(self, case: Case, contenders: Sequence[KernelContender], timed: Inputs) -> Iterator[KernelTimes]:
        """With a cold cache, then with a hot one."""
        read = kernel_contenders.OPERANDS[case.part]  # by the part itself
        set_bytes = sum(timed[key].nbytes for key in read)
        sets = min(max(2, ceil(2 * self.machine.cache / set_bytes) + 1), MOST_SETS)
        inputs = kernel_contenders.copies(timed, sets)
        calls = [contender.timed(inputs) for contender in contenders]
        for cache, count in (("cold", sets), ("hot", 1)):
            clock, taken = self._take(calls, count)
            evicts = cache == "hot" or (sets - 1) * set_bytes >= 2 * self.machine.cache
            yield KernelTimes(case, cache, self.machine, taken, clock, count, set_bytes, evicts)

    def _take(self, calls: Sequence[TimedCall], sets: int) -> tuple[Clock, dict[str, list[Sample]]]:
        """By one clock for all: the loop, where the better one does not see every contender."""
        clock = self.make_clock()
        try:
            return clock, take_turns(calls, clock, self.rounds, sets)
        except UnseenError:
            loop = Loop()
            return loop, take_turns(calls, loop, self.rounds, sets)


def _worth_timing(right: set[str], every: set[str]) -> bool:
    """Whether our exact form and all that the row is about are right, and something that it could be held against."""
    needed = {"ours", "method", "vjp full", "vjp method"} & every
    return needed <= right and right != {"ours"}
