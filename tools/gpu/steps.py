"""Training steps of whole networks, every layer by one method: what approximation could save at most, on this device.

    plain    nnx.Conv, autodiff's own gradients
    full, zero, approx, pooled    our convolution, all layers by that method

A sample is STEPS steps in a row, which the host sends without waiting.
"""

from __future__ import annotations

from typing import Any

from approxtrain.bench.plain import PlainNetwork
from approxtrain.bench.step import StepBench
from approxtrain.bench.timing import Times, interleaved, ratio
from approxtrain.schedule import ScheduleConfig
from approxtrain.schedule.config import Rule

STEPS = 20
METHODS = ("full", "zero", "approx", "pooled")


class MethodBench(StepBench):
    """Times the methods against the exact step of the same network, interleaved."""

    def compare(self, rounds: int, steps: int = STEPS) -> dict[str, Any]:
        calls = {"plain": self.single("plain", self._full(), "host", PlainNetwork, steps=steps).call}
        for name in METHODS:
            schedule = self._from(ScheduleConfig(rules=(Rule(method=name),)))
            calls[name] = self.single(name, schedule, "host", steps=steps).call
        taken = interleaved(calls, rounds)
        times = {name: Times(tuple(seconds / steps for seconds in found.seconds)) for name, found in taken.items()}
        return {
            "model": self.model.name,
            "batch": self.config.train.batch_size,
            "precision": self.config.train.precision,
            "data": self.data,
            "rounds": rounds,
            "steps_a_sample": steps,
            "milliseconds": {name: found.milliseconds for name, found in times.items()},
            "median_ms": {name: 1e3 * found.median for name, found in times.items()},
            "ratio_to_full": {
                name: ratio(found, times["full"]).as_json() for name, found in times.items() if name != "full"
            },
        }
