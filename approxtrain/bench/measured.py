"""The times of one case with one cache, and what they say: ratios, bytes a second, how far from the roofline.

    wgrad with a method     the method, against the faster exact form that XLA offers (ours or its own)
    anything exact          our form, against the faster of all others (XLA's own, PyTorch's two)

Imports no jax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from approxtrain.bench.machine import Machine
from approxtrain.bench.plan import Case
from approxtrain.bench.timer import Samples, Timer
from approxtrain.bench.timing import Ratio, Times, difference, ratio

TORCH = ("torch nchw", "torch nhwc")


@dataclass(frozen=True)
class Measured:
    """Samples of every contender, interleaved."""

    case: Case
    cache: str
    machine: Machine
    samples: Mapping[str, Samples]
    timer: Timer
    """The clock of all of them, with the calls a sample."""
    sets: int
    """Sets of inputs that the calls go round."""
    set_bytes: int
    evicts: bool
    """Cold: whether the sets are large enough to throw each other out of the last-level cache."""

    @cached_property
    def times(self) -> dict[str, Times]:
        return {name: samples.times for name, samples in self.samples.items()}

    @property
    def subject(self) -> Times:
        return self.times[self.case.subject]

    @property
    def base_is(self) -> str:
        """The contender that the subject is held against."""
        return self._fastest(("ours", "xla") if self.case.subject == "method" else ("xla", *TORCH))

    @property
    def base(self) -> Times:
        return self.times[self.base_is]

    @cached_property
    def ratio(self) -> Ratio:
        """Time of the subject over that of the base."""
        return ratio(self.subject, self.base)

    @cached_property
    def torch_is(self) -> str | None:
        """PyTorch's faster memory format; None without PyTorch."""
        return self._fastest(TORCH) if any(name in self.times for name in TORCH) else None

    @cached_property
    def ratios(self) -> dict[str, Ratio]:
        """Others worth knowing, each "new/base"."""
        pairs = [("ours", "xla"), ("ours", self.torch_is), ("vjp method", "vjp full")]
        found = {f"{new}/{base}": (new, base) for new, base in pairs if new in self.times and base in self.times}
        return {name: ratio(self.times[new], self.times[base]) for name, (new, base) in found.items()}

    @property
    def vjp_saves(self) -> tuple[float, float, float] | None:
        """Seconds that the method saves where a user meets it, with the 95 % interval."""
        if "vjp method" not in self.times:
            return None
        return difference(self.times["vjp method"], self.times["vjp full"])

    @property
    def layout(self) -> float | None:
        """Seconds of the subject's kernels that only change a layout; None where no profiler tells kernels apart."""
        seconds = self.samples[self.case.subject].layout
        return Times(tuple(seconds)).median if seconds else None

    def bandwidth(self, name: str) -> float:
        """Bytes a second: those that have to be moved at least, over the median time."""
        return self.case.cost(name)[1] / self.times[name].median

    def floor(self, name: str) -> float:
        """Seconds that this machine needs at least, by what was measured of it."""
        return self.machine.floor(*self.case.cost(name), self.case.precision.name)

    def as_json(self) -> dict[str, Any]:
        taken = {name: times.milliseconds for name, times in self.times.items()}
        dense = {"dense": taken[self.base_is]} if self.case.subject == "method" else {}
        saves = self.vjp_saves
        layout = {name: [1e3 * s for s in each.layout] for name, each in self.samples.items() if each.layout}
        return {
            "cache": self.cache,
            "milliseconds": dense | taken,
            "base_is": self.base_is,
            "ratio": self.ratio.as_json(),
            "ratios": {name: found.as_json() for name, found in self.ratios.items()},
            "vjp_saves_ms": saves and dict(zip(("value", "low", "high"), (1e3 * s for s in saves), strict=True)),
            "layout_milliseconds": layout,
            "kernels": {name: sorted(each.kernels) for name, each in self.samples.items() if each.kernels},
            "contenders": {name: self._cost(name) for name in taken},
            "clock": self.timer.name,
            "calls_a_sample": self.timer.calls,
            "sets": self.sets,
            "set_bytes": self.set_bytes,
            "sets_evict_each_other": self.evicts,
        }

    def _cost(self, name: str) -> dict[str, float]:
        flops, moved = self.case.cost(name)
        return {
            "flops": flops,
            "bytes": moved,
            "gb_s": self.bandwidth(name) / 1e9,
            "share_of_bandwidth": self.bandwidth(name) / self.machine.bandwidth,
            "floor_ms": 1e3 * self.floor(name),
        }

    def _fastest(self, names: Sequence[str]) -> str:
        return min((name for name in names if name in self.times), key=lambda name: self.times[name].median)
