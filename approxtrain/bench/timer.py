"""The clock of `bench-kernel`: kernels by CUPTI where there is an NVIDIA GPU, an amortised loop elsewhere.

    loop    enough calls a sample to last LOOP_SECONDS. On a CPU every call is waited for, because XLA may run calls
            that do not depend on each other at the same time; on a GPU they queue up and the last one is waited for.
    cupti   the driver's own record of when each kernel began and ended, summed over the kernels of a call: what the
            host does in between does not count.

Contenders take turns, round by round. Before each sample there is one call that is not timed: what the contender
before left running or left in the small caches is not this one's doing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from approxtrain.bench.timing import Times

LOOP_SECONDS = 0.02
MOST_CALLS = 20_000
WARM_UP = 3
_LAYOUT = re.compile(r"transpose|copy|nchw_?to_?nhwc|nhwc_?to_?nchw|tensor_?transform", re.IGNORECASE)
"""Names of the kernels that change a layout and compute nothing: XLA's and cuDNN's."""


@dataclass(frozen=True)
class Contender:
    """Something to be timed. `run` starts the work on one set of inputs; `wait` returns when it is done."""

    name: str
    run: Callable[[int], Any]
    wait: Callable[[Any], Any]
    queues: bool = False
    """Whether calls may be started before the one before is done; they then run in order."""
    by_kernel: bool = False
    """Whether CUPTI may time it, where there is CUPTI; otherwise the wall clock does."""


@dataclass
class Turn:
    """Which set of inputs comes next: one count for all contenders, so that a set is always the longest unused."""

    sets: int
    at: int = 0

    def next(self) -> int:
        self.at = (self.at + 1) % self.sets
        return self.at


@dataclass
class Samples:
    """What one contender took, in the order of the rounds."""

    seconds: list[float] = field(default_factory=list)
    """A call."""
    layout: list[float] = field(default_factory=list)
    """Of these seconds, those of kernels that change a layout; empty where no profiler tells."""
    kernels: set[str] = field(default_factory=set)

    @property
    def times(self) -> Times:
        return Times(tuple(self.seconds))


class Loop:
    """Wall clock around enough calls."""

    name = "loop"
    summary = f"wall clock around enough calls to last {1e3 * LOOP_SECONDS:.0f} ms"

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        """Contender → calls a sample."""

    def sample(self, contender: Contender, turn: Turn, into: Samples) -> None:
        calls = self.calls.get(contender.name) or self._calibrate(contender, turn)
        into.seconds.append(self._block(contender, turn, calls) / calls)

    def _calibrate(self, contender: Contender, turn: Turn) -> int:
        """Warm up, then find how many calls last long enough."""
        for _ in range(WARM_UP):
            contender.wait(contender.run(turn.next()))
        calls = 1
        while (seconds := self._block(contender, turn, calls)) < LOOP_SECONDS and calls < MOST_CALLS:
            more = ceil(1.1 * calls * LOOP_SECONDS / max(seconds, 1e-7))
            calls = min(max(more, calls + 1), 10 * calls, MOST_CALLS)
        self.calls[contender.name] = calls
        return calls

    @staticmethod
    def _block(contender: Contender, turn: Turn, calls: int) -> float:
        run, wait, order = contender.run, contender.wait, [turn.next() for _ in range(calls)]
        start = time.perf_counter()
        if contender.queues:
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
    """The driver's record of the kernels of a call; contenders without a program go to the loop."""

    name = "cupti"
    summary = "kernel times by CUPTI, the driver's own record; those inside a vjp by wall clock around queued calls"
    CALLS = 5

    def __init__(self, measure: Callable[..., Any]) -> None:
        self._measure = measure
        self._loop = Loop()
        self._own: dict[str, int] = {}

    @property
    def calls(self) -> dict[str, int]:
        """Contender → calls a sample."""
        return self._loop.calls | self._own

    def sample(self, contender: Contender, turn: Turn, into: Samples) -> None:
        if not contender.by_kernel:
            self._loop.sample(contender, turn, into)
            return
        if contender.name not in self._own:
            for _ in range(WARM_UP):
                contender.wait(contender.run(turn.next()))
        self._own[contender.name] = self.CALLS
        try:
            _, kernels = self._measure(_InTurn(contender, turn), aggregate=False, iterations=self.CALLS)()
        except RuntimeError as error:
            raise UnseenError(f"{contender.name}: {error}") from error
        if not kernels:
            raise UnseenError(f"{contender.name}: no kernel")
        total = [sum(ms for _, ms in call) for call in kernels]
        layout = [sum(ms for name, ms in call if _LAYOUT.search(name)) for call in kernels]
        into.seconds.append(sum(total) / len(total) / 1e3)
        into.layout.append(sum(layout) / len(layout) / 1e3)
        into.kernels.update(name for call in kernels for name, _ in call)


class _InTurn:
    """A program whose calls take the next inputs, in the shape of a jitted function (`jax.stages.Wrapped`).

    CUPTI's front end warms up with one call before it records, with the inputs that it then records: here these
    differ, so that cold stays cold.
    """

    def __init__(self, contender: Contender, turn: Turn) -> None:
        self._contender, self._turn = contender, turn

    def __call__(self) -> Any:
        return self._contender.run(self._turn.next())

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


Timer = Loop | Cupti


def best_timer() -> Callable[[], Timer]:
    """Makes timers: CUPTI where the device is an NVIDIA GPU and it answers, else the loop. Starts jax's backend."""
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


def take_turns(
    contenders: Mapping[str, Contender],
    timer: Timer,
    rounds: int,
    sets: int,
    on_round: Callable[[int], None] = lambda number: None,
) -> dict[str, Samples]:
    """`rounds` samples of each contender, one after the other in every round. One set of inputs is the hot cache."""
    turn = Turn(sets)
    taken = {name: Samples() for name in contenders}
    for number in range(-1, rounds):
        for name, contender in contenders.items():
            contender.wait(contender.run(turn.next()))
            timer.sample(contender, turn, taken[name] if number >= 0 else Samples())
        on_round(number)
    return taken
