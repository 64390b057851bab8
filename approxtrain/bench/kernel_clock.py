"""The clock of `bench-kernel`: kernels by CUPTI where there is an NVIDIA GPU, an amortised loop elsewhere.

    loop    enough calls a sample to last LOOP_SECONDS. On a CPU every call is waited for, because XLA may run calls
            that do not depend on each other at the same time; on a GPU they queue up and the last one is waited for.
    cupti   the driver's own record of when each kernel began and ended, summed over the kernels of a call: what the
            host does in between does not count. What is to be timed as a user meets it goes to the loop beside it.

Contenders take turns, round by round. Before each sample there is one call that is not timed: what the contender
before left running or left in the small caches is not this one's doing.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

LOOP_SECONDS = 0.02
MOST_CALLS = 20_000
WARM_UP = 3
LAYOUT = re.compile(r"transpose|copy|nchw_?to_?nhwc|nhwc_?to_?nchw|tensor_?transform", re.IGNORECASE)
"""Names of the kernels that change a layout and compute nothing: XLA's and cuDNN's."""

Sample = dict[str, float]
"""Kernel → its seconds in a call. Of the loop, which sees no kernels, one entry for the whole call, WHOLE."""
WHOLE = ""
Turn = Iterator[int]
"""Which set of inputs comes next: one count for all contenders, so that a set is always the longest unused."""


@dataclass(frozen=True)
class TimedCall:
    """Something to be timed. `run` starts the work on one set of inputs; `wait` returns when it is done."""

    name: str
    run: Callable[[int], Any]
    wait: Callable[[Any], Any]
    queues: bool = False
    """Whether calls may be started before the one before is done; they then run in order."""
    by_kernel: bool = False
    """Whether CUPTI may time it, where there is CUPTI; otherwise the wall clock does."""


class Loop:
    """Wall clock around enough calls."""

    name = "loop"
    summary = f"wall clock around enough calls to last {1e3 * LOOP_SECONDS:.0f} ms"

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        """Contender → calls a sample."""

    def sample(self, call: TimedCall, turn: Turn) -> Sample:
        calls = self.calls.get(call.name) or self._calibrate(call, turn)
        return {WHOLE: self._block(call, turn, calls) / calls}

    def _calibrate(self, call: TimedCall, turn: Turn) -> int:
        """Warm up, then find how many calls last long enough."""
        for _ in range(WARM_UP):
            call.wait(call.run(next(turn)))
        calls = 1
        while (seconds := self._block(call, turn, calls)) < LOOP_SECONDS and calls < MOST_CALLS:
            more = ceil(1.1 * calls * LOOP_SECONDS / max(seconds, 1e-7))
            calls = min(max(more, calls + 1), 10 * calls, MOST_CALLS)
        self.calls[call.name] = calls
        return calls

    @staticmethod
    def _block(call: TimedCall, turn: Turn, calls: int) -> float:
        run, wait, order = call.run, call.wait, [next(turn) for _ in range(calls)]
        start = time.perf_counter()
        if call.queues:
            result = None
            for number in order:
                result = run(number)
            wait(result)
        else:
            for number in order:
                wait(run(number))
        return time.perf_counter() - start


class UnseenError(Exception):
    """CUPTI has no record of a contender's kernels, or not the same in every call: the loop has to time all of them."""


class Cupti:
    """The driver's record of the kernels of a call; calls that are not timed by kernel go to the loop."""

    name = "cupti"
    summary = "kernel times by CUPTI, the driver's own record; those inside a vjp by wall clock around queued calls"
    CALLS = 5

    def __init__(self, measure: Callable[..., Any]) -> None:
        self._measure = measure
        self._loop = Loop()
        self.calls = self._loop.calls

    def sample(self, call: TimedCall, turn: Turn) -> Sample:
        if not call.by_kernel:
            return self._loop.sample(call, turn)
        for _ in range(WARM_UP if call.name not in self.calls else 0):
            call.wait(call.run(next(turn)))
        self.calls[call.name] = self.CALLS
        try:
            _, kernels = self._measure(_InTurn(call, turn), aggregate=False, iterations=self.CALLS)()
        except RuntimeError as error:
            raise UnseenError(f"{call.name}: {error}") from error
        if not kernels:
            raise UnseenError(f"{call.name}: no kernel")
        sample: Sample = {}
        for name, milliseconds in itertools.chain(*kernels):
            sample[name] = sample.get(name, 0.0) + milliseconds / 1e3 / len(kernels)
        return sample


class _InTurn:
    """A call that takes the next inputs each time, in the shape of a jitted function (`jax.stages.Wrapped`).

    CUPTI's front end warms up with one call before it records, with the inputs that it then records: here these
    differ, so that cold stays cold.
    """

    def __init__(self, call: TimedCall, turn: Turn) -> None:
        self._call, self._turn = call, turn

    def __call__(self) -> Any:
        return self._call.run(next(self._turn))

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    lower = trace


Clock = Loop | Cupti


def best_clock() -> Callable[[], Clock]:
    """Makes clocks: CUPTI where the device is an NVIDIA GPU and it answers, else the loop. Starts jax's backend."""
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        return Loop
    try:
        from jax.experimental.mosaic.gpu.profiler import Cupti as Profiler

        measure = Profiler(finalize=False).measure
        _, seen = measure(jax.jit(jnp.negative), aggregate=False)(jnp.ones(1024))
    except (ImportError, RuntimeError):  # another profiler is attached, or the driver does not allow it
        return Loop
    return (lambda: Cupti(measure)) if seen else Loop


def take_turns(calls: Sequence[TimedCall], clock: Clock, rounds: int, sets: int) -> dict[str, list[Sample]]:
    """`rounds` samples of each call, one after the other in every round. One set of inputs is the hot cache."""
    turn = itertools.cycle(range(sets))
    taken: dict[str, list[Sample]] = {call.name: [] for call in calls}
    for number in range(-1, rounds):
        for call in calls:
            call.wait(call.run(next(turn)))
            sample = clock.sample(call, turn)
            if number >= 0:
                taken[call.name].append(sample)
    return taken
