"""From the seconds of `step` to what they say: ratios with intervals, the split of a step, bounds, shares of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from approxtrain.bench import torch_peer
from approxtrain.bench.step import Measured, StepBench, period
from approxtrain.bench.step_parts import PARTS
from approxtrain.bench.timing import Times, interval, ratio

BASE = "full"


def report(bench: StepBench, measured: Measured) -> dict[str, Any]:
    """All samples, and what is computed from them, as JSON."""
    train = bench.config.train
    names = list(measured.contenders)
    torch = [name for name in names if name.startswith("torch")]
    best = min(torch, key=lambda name: measured.times[name].median, default=None)
    return {
        "model": bench.model.name,
        "batch": train.batch_size,
        "precision": train.precision,
        "data": bench.data,
        "seed": train.seed,
        "rounds": len(measured.times[BASE].seconds),
        "contenders": {name: _contender(measured, name) for name in names},
        "full_to_peer": {
            name: ratio(measured.times[BASE], measured.times[name]).as_json()
            for name in ("plain", best)
            if name in names
        },
        "left_out": measured.left_out,
        "torch": torch_peer.facts() if torch else None,
        "split_ms": split(measured),
        "parts": [
            {
                "part": part.kind,
                "layers": list(part.layers),
                "shape": [*part.shape.x_shape, part.shape.out_channels],
                "milliseconds": measured.times[part.name].milliseconds,
            }
            for part in measured.parts.parts
        ],
        "schedules": {title: bound(measured, title) for title in measured.schedules},
    }


def _contender(measured: Measured, name: str) -> dict[str, Any]:
    times, found = measured.times[name], measured.contenders[name]
    return {
        "median_ms": 1e3 * times.median,
        "ratio_to_full": None if name == BASE else ratio(times, measured.times[BASE]).as_json(),
        "temporaries_mb": None if found.temporaries is None else found.temporaries / 1e6,
        "steps_a_sample": found.steps,
        "milliseconds": times.milliseconds,
    }


def split(measured: Measured) -> dict[str, float]:
    """Milliseconds of the exact step: the three convolutions, each the sum of its layers alone, and the rest."""
    seconds = _seconds(measured)
    parts = {kind: 1e3 * float(np.median(measured.parts.total(kind, seconds))) for kind in PARTS}
    whole = 1e3 * measured.times[BASE].median
    return parts | {"rest": whole - sum(parts.values()), "full": whole}


def bound(measured: Measured, title: str) -> dict[str, Any]:
    """How fast a schedule could be, how fast it is, and the share of the way that it went, with 95 % intervals.

    Speed-up is the paper's, 1 − T_schedule / T_full. The share is (T_full − T_schedule) / (T_full − bound).
    """
    schedule = measured.schedules[title]
    saved = measured.parts.saved(schedule, period(schedule), _seconds(measured))
    full, own = measured.times[BASE], measured.times[title]
    rows = (full, own, Times(tuple(saved)))

    def of(statistic: Callable[..., Any]) -> dict[str, float]:
        value, low, high = interval(statistic, *rows)
        return {"value": value, "low": low, "high": high}

    return {
        "period": period(schedule),
        "bound_ms": 1e3 * (full.median - float(np.median(saved))),
        "bound_speed_up": of(lambda full, own, saved: saved / full),
        "speed_up": of(lambda full, own, saved: 1 - own / full),
        "share_of_bound": of(lambda full, own, saved: (full - own) / saved),
    }


def _seconds(measured: Measured) -> dict[str, np.ndarray]:
    return {name: np.asarray(times.seconds) for name, times in measured.times.items()}
