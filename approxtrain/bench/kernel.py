"""Table 1 on this device: one convolution at a time, checked, then timed with cold and with hot caches.

A contender that is wrong is not timed; where it is the subject of the row, or our own exact form, nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

import jax
import numpy as np

from approxtrain.bench import contenders, torch_peer
from approxtrain.bench.contenders import Candidate, Inputs
from approxtrain.bench.exactness import Gate, exact_method, relative_error
from approxtrain.bench.kernel_row import Row, number
from approxtrain.bench.machine import Machine
from approxtrain.bench.measured import Measured
from approxtrain.bench.plan import Case
from approxtrain.bench.timer import Contender, Loop, Samples, Timer, UnseenError, take_turns
from approxtrain.errors import ConfigError

MOST_SETS = 1024
INTERPRETED_BATCH = 2
INTERPRETED = "pallas-interpret"

Told = Callable[[int, str], None]
"""Number of the row, from 0, and what happens to it now."""


@dataclass(frozen=True)
class Bench:
    """Times cases on a machine."""

    machine: Machine
    timer: Callable[[], Timer]
    rounds: int
    told: Told = lambda position, what: None

    def run(self, cases: Sequence[Case]) -> Iterator[Row]:
        """Check and time one case after the other."""
        for position, case in enumerate(cases):
            yield self._row(case, 2 * position, lambda what, at=position: self.told(at, what))

    def _row(self, case: Case, seed: int, tell: Callable[[str], None]) -> Row:
        tell("compiling")
        timed = contenders.draw(case, seed)
        candidates = _candidates(case)
        gate = Gate(case, seed + 1)
        tell("checking")
        right = [candidate for candidate in candidates if gate.check(candidate, timed)]
        interpreted = interpret(case, seed) if jax.default_backend() == "cpu" else None
        row = Row(case, gate.errors, _failed(candidates, gate), interpreted=interpreted)
        if _spoilt(row):
            return row
        measured = self._measure(case, right, timed, tell)
        for candidate in right:
            gate.check_again(candidate)
        row.failed = _failed(candidates, gate)
        row.measured = {} if set(row.failed) & {each.name for each in right} else measured
        return row

    def _measure(
        self, case: Case, candidates: Sequence[Candidate], timed: Inputs, tell: Callable[[str], None]
    ) -> dict[str, Measured]:
        set_bytes = sum(timed[key].nbytes for key in contenders.OPERANDS[case.part])  # what the part itself reads
        sets = min(max(2, ceil(2 * self.machine.cache / set_bytes) + 1), MOST_SETS)
        inputs = contenders.copies(timed, sets)
        loaded = {each.name: [each.load(one) for one in inputs] for each in candidates}
        measured = {}
        for cache, count in (("cold", sets), ("hot", 1)):
            taking_part = {each.name: _contender(each, loaded[each.name]) for each in candidates}
            timer, taken = self._take(taking_part, count, lambda n, c=cache: tell(f"{c} cache, {n + 1} rounds done"))
            evicts = cache == "hot" or (sets - 1) * set_bytes >= 2 * self.machine.cache
            measured[cache] = Measured(case, cache, self.machine, taken, timer, count, set_bytes, evicts)
        return measured

    def _take(
        self, taking_part: Mapping[str, Contender], sets: int, on_round: Callable[[int], None]
    ) -> tuple[Timer, dict[str, Samples]]:
        """By one clock for all: the loop, where the better one does not see every contender."""
        timer = self.timer()
        try:
            return timer, take_turns(taking_part, timer, self.rounds, sets, on_round)
        except UnseenError:
            loop = Loop()
            return loop, take_turns(taking_part, loop, self.rounds, sets, on_round)


def _candidates(case: Case) -> list[Candidate]:
    try:
        return [*contenders.programs(case), *torch_peer.peers(case)]
    except ValueError as error:
        if case.implementation is None:
            raise
        raise ConfigError(f"`--implementation`: {error}") from None


def interpret(case: Case, seed: int) -> dict[str, Any] | None:
    """Run the method's Pallas kernel, interpreted, on a few images. None where the method has no such kernel here."""
    if case.part != "wgrad" or not hasattr(case.method, "implementation"):
        return None
    few = replace(case, shape=replace(case.shape, batch=min(case.shape.batch, INTERPRETED_BATCH)))
    inputs = contenders.draw(few, seed)
    interpreted = {"implementation": INTERPRETED}  # by its name, which not every method has
    kernel = contenders.estimator(replace(case.method, **interpreted), few.shape)
    try:
        if "pallas_call" not in str(jax.make_jaxpr(kernel)(inputs["x"], inputs["dy"])):
            return None
        found = np.asarray(jax.jit(kernel)(inputs["x"], inputs["dy"]), np.float32)
    except ValueError as error:
        return {"batch": few.shape.batch, "failed": True, "relative_error": None, "why": str(error)}
    error = relative_error(found, exact_method(few, inputs))
    wrong = not error <= case.precision.tolerance
    return {"batch": few.shape.batch, "failed": wrong, "relative_error": number(error), "why": None}


def seconds_expected(case: Case, machine: Machine, rounds: int, names: Sequence[str]) -> float:
    """A guess, for the user to decide whether to wait: samples of 20 ms or of one call at a third of the roofline."""
    calls = [3 * machine.floor(*case.cost(name), case.precision.name) for name in names]
    timing = 2 * (rounds + 2) * sum(max(0.02 + call, 2 * call) for call in calls)
    checking = 4 + 4e-9 * (prod(case.shape.x_shape) + prod(case.shape.y_shape)) * 20 + 8e-11 * case.shape.flops
    return timing + checking


def _contender(candidate: Candidate, operands: Sequence[tuple[Any, ...]]) -> Contender:
    return Contender(
        candidate.name,
        lambda number: candidate.run(operands[number]),
        candidate.wait,
        candidate.queues,
        candidate.by_kernel,
    )


def _failed(candidates: Sequence[Candidate], gate: Gate) -> tuple[str, ...]:
    return tuple(each.name for each in candidates if not gate.right(each.name))


def _spoilt(row: Row) -> bool:
    """Whether what the row is about, or what it is held against, is wrong: then it has no times."""
    return not {"ours", row.case.subject, "vjp full", "vjp method"}.isdisjoint(row.failed) or _alone(row)


def _alone(row: Row) -> bool:
    """Whether every contender that the subject could be held against is wrong."""
    return set(row.failed) >= set(row.errors) - {row.case.subject}


def names_of(case: Case, torch: bool) -> list[str]:
    """The contenders of a case, as they will be built."""
    names = ["ours", "xla", *(("method", "vjp full", "vjp method") if case.subject == "method" else ())]
    return names + (list(torch_peer.FORMATS) if torch else [])
