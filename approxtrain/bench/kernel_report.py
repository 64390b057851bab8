"""From the samples of `bench-kernel` to its JSON: ratios, bytes a second, how far from the roofline.

wgrad with a method     the method, against the faster exact form that XLA offers (ours or its own)
anything exact          our form, against the faster of all others (XLA's own, PyTorch's two)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_clock import LAYOUT, WHOLE, Clock, Sample
from approxtrain.bench.machine import Machine
from approxtrain.bench.timing import Times, interval, ratio

SCHEMA = 2
TORCH = ("torch nchw", "torch nhwc")


@dataclass(frozen=True)
class KernelTimes:
    """Samples of every contender of one case with one cache, interleaved."""

    case: Case
    cache: str
    machine: Machine
    samples: Mapping[str, Sequence[Sample]]
    clock: Clock
    """The clock of all of them, with the calls a sample."""
    sets: int
    """Sets of inputs that the calls go round."""
    set_bytes: int
    evicts: bool
    """Whether the sets throw each other out of the last-level cache, or are not meant to."""

    @cached_property
    def times(self) -> dict[str, Times]:
        return {name: Times(tuple(sum(one.values()) for one in taken)) for name, taken in self.samples.items()}

    def as_json(self) -> dict[str, Any]:
        subject, base = self.case.subject, self._base()
        milliseconds = {name: times.milliseconds for name, times in self.times.items()}
        by_kernel = {name: taken for name, taken in self.samples.items() if WHOLE not in taken[0]}
        return {
            "cache": self.cache,
            "milliseconds": ({"dense": milliseconds[base]} if subject == "method" else {}) | milliseconds,
            "base_is": base,
            "ratio": ratio(self.times[subject], self.times[base]).as_json(),
            "ratios": self._other_ratios(),
            "vjp_saves_ms": self._saved_in_a_vjp(),
            "layout_milliseconds": {name: [_layout_ms(one) for one in taken] for name, taken in by_kernel.items()},
            "kernels": {name: sorted(set().union(*taken)) for name, taken in by_kernel.items()},
            "contenders": {name: self._cost(name) for name in milliseconds},
            "clock": self.clock.name,
            "calls_a_sample": self.clock.calls,
            "sets": self.sets,
            "set_bytes": self.set_bytes,
            "sets_evict_each_other": self.evicts,
        }

    def _base(self) -> str:
        """The contender that the subject is held against."""
        return self._fastest(("ours", "xla") if self.case.subject == "method" else ("xla", *TORCH))

    def _fastest(self, names: Sequence[str]) -> str:
        return min((name for name in names if name in self.times), key=lambda name: self.times[name].median)

    def _other_ratios(self) -> dict[str, Any]:
        """Our exact form over XLA's and the faster of PyTorch's two layouts; a vjp with the method over the exact."""
        pairs = [("ours", self._fastest(names)) for names in (("xla",), TORCH) if self.times.keys() & set(names)]
        pairs += [("vjp method", "vjp full")] if "vjp method" in self.times else []
        return {f"{new}/{base}": ratio(self.times[new], self.times[base]).as_json() for new, base in pairs}

    def _saved_in_a_vjp(self) -> dict[str, float] | None:
        """Milliseconds that the method saves where a training step meets it, with the 95 % interval."""
        if "vjp method" not in self.times:
            return None
        saved = interval(lambda new, full: 1e3 * (full - new), self.times["vjp method"], self.times["vjp full"])
        return dict(zip(("value", "low", "high"), saved, strict=True))

    def _cost(self, name: str) -> dict[str, float]:
        flops, moved = self.case.cost(name)
        bandwidth = moved / self.times[name].median
        return {
            "flops": flops,
            "bytes": moved,
            "gb_s": bandwidth / 1e9,
            "share_of_bandwidth": bandwidth / self.machine.bandwidth,
            "floor_ms": 1e3 * self.machine.floor(flops, moved, self.case.precision.name),
        }


def kernel_row(
    case: Case, errors: Mapping[str, float], failed: Collection[str], measured: Sequence[KernelTimes]
) -> dict[str, Any]:
    """What is written of a case. Of `measured` the first is the row's own, others are beside it; empty after a FAIL.

    `errors`: by contender, max |error| / max |exact value|, the largest of all runs that were checked. A peer that
    failed is left out of the times.
    """
    times = [each.as_json() for each in measured] or [{"milliseconds": {}, "ratio": None}]
    return {
        "shape": asdict(case.shape),
        "dtype": case.precision.name,
        "part": case.part,
        "method": case.method.label,
        "exact_dgrad": case.method.exact_dgrad,
        "relative_error": {name: error if isfinite(error) else str(error) for name, error in errors.items()},
        "tolerance": case.precision.tolerance,
        "failed": list(failed),
        **times[0],
        "also": {each["cache"]: each for each in times[1:]},
    }


def _layout_ms(sample: Sample) -> float:
    """Milliseconds of the kernels that only change a layout."""
    return 1e3 * sum(seconds for name, seconds in sample.items() if LAYOUT.search(name))
