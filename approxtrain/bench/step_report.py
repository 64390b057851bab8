"""From the seconds of `step_bench` to what they say: ratios with intervals, the split of a step, bounds, shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from approxtrain.bench import torch_peer
from approxtrain.bench.step_bench import StepBench, StepTimes
from approxtrain.bench.step_parts import PARTS, saved, total
from approxtrain.bench.timing import Times, interval, ratio

BASE = "full"


def report(bench: StepBench, measured: StepTimes) -> dict[str, Any]:
    """All samples, and what is computed from them, as JSON."""
    train, times = bench.config.train, measured.times
    torch = [name for name in measured.contenders if name.startswith("torch")]
    best = min(torch, key=lambda name: times[name].median, default=None)
    peers = [name for name in ("plain", best) if name in measured.contenders]
    return {
        "model": bench.model.name,
        "batch": train.batch_size,
        "precision": train.precision,
        "data": bench.data,
        "seed": train.seed,
        "rounds": len(times[BASE].seconds),
        "contenders": {name: _contender(measured, name) for name in measured.contenders},
        "full_to_peer": {name: ratio(times[BASE], times[name]).as_json() for name in peers},
        "left_out": measured.left_out,
        "torch": torch_peer.facts() if torch else None,
        "split_ms": split(measured),
        "parts": [
            {
                "part": part.kind,
                "layers": list(part.layers),
                "shape": [*part.shape.x_shape, part.shape.out_channels],
                "milliseconds": times[part.name].milliseconds,
            }
            for part in measured.parts
        ],
        "schedules": {title: bound(measured, title) for title in measured.schedules},
    }


def _contender(measured: StepTimes, name: str) -> dict[str, Any]:
    times, contender = measured.times[name], measured.contenders[name]
    return {
        "median_ms": 1e3 * times.median,
        "ratio_to_full": None if name == BASE else ratio(times, measured.times[BASE]).as_json(),
        "temporaries_mb": None if contender.temporaries is None else contender.temporaries / 1e6,
        "steps_a_sample": contender.steps,
        "milliseconds": times.milliseconds,
    }


def split(measured: StepTimes) -> dict[str, float]:
    """Milliseconds of the exact step: the three convolutions, each the sum of its layers alone, and the rest."""
    parts = {kind: 1e3 * float(np.median(total(measured.parts, kind, measured.times))) for kind in PARTS}
    whole = 1e3 * measured.times[BASE].median
    return parts | {"rest": whole - sum(parts.values()), "full": whole}


def bound(measured: StepTimes, title: str) -> dict[str, Any]:
    """How fast a schedule could be, how fast it is, and the share of the way that it went, with 95 % intervals.

    Speed-up is the paper's, 1 − T_schedule / T_full. The share is (T_full − T_schedule) / (T_full − bound). Where
    images are fewer or have other sizes, or blocks are left out, there is no bound: all of the step is cheaper then.
    """
    steps = measured.contenders[title].steps
    less = saved(measured.parts, measured.schedules[title], steps, measured.times)
    samples = (measured.times[BASE], measured.times[title], Times(tuple(less)))

    def of(statistic: Callable[..., Any]) -> dict[str, float]:
        return dict(zip(("value", "low", "high"), interval(statistic, *samples), strict=True))

    speed_up = of(lambda full, approximated, saved: 1 - approximated / full)
    schedule = measured.schedules[title]
    if any(seen.text for seen in schedule.seen) or any(schedule.column_absent):
        return {"speed_up": speed_up}
    return {
        "bound_ms": 1e3 * (samples[0].median - samples[2].median),
        "bound_speed_up": of(lambda full, approximated, saved: saved / full),
        "speed_up": speed_up,
        "share_of_bound": of(lambda full, approximated, saved: (full - approximated) / saved),
    }
