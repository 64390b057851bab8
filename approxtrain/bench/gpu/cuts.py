"""The kernel of the gather form, cut in many ways: which tile and how many splits are fastest on this device.

What the model of `choose` prefers is one of them. A cut is held against the result of the first, and timed by CUPTI
with its inputs in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import numpy as np

from approxtrain.bench.gpu.forms import _inputs, _kernels
from approxtrain.bench.machine import matmul_precision
from approxtrain.bench.plan import PRECISIONS
from approxtrain_kernels import ConvShape
from approxtrain_kernels.pallas.choose import cuttings
from approxtrain_kernels.pallas.devices import device_of
from approxtrain_kernels.pallas.model import Layer, sparse
from approxtrain_kernels.pallas.wgrad import estimate

MOST = 14
"""Cuts of one layer: those that the model holds for the fastest, no two of them alike but for their splits."""
THREADS = 12


def run(shapes: Sequence[ConvShape], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    device = device_of(jax.devices()[0].device_kind)
    for precision in (PRECISIONS[name] for name in names):
        for shape in shapes:
            layer = Layer(shape, 1, precision.dtype, precision.name != "float32", device)
            plans = sorted((sparse(layer, "gather", cut) for cut in cuttings("gather", layer)), key=lambda p: p.seconds)
            arrays = _inputs(shape, precision)[0]

            def built(plan: Any, shape: ConvShape = shape, arrays: Any = arrays) -> Any:
                return jax.jit(partial(estimate, shape=shape, k=1, plan=plan)).lower(*arrays).compile()

            chosen = _spread(plans)
            with matmul_precision(precision), ThreadPoolExecutor(THREADS) as pool:
                calls = list(pool.map(built, chosen))
            first = np.asarray(calls[0](*arrays))
            rows = []
            for plan, call in zip(chosen, calls, strict=True):
                apart = float(np.abs(np.asarray(call(*arrays)) - first).max() / np.abs(first).max())
                rows.append({"plan": asdict(plan), "apart": apart, "kernels_us": _kernels(call, arrays)})
            yield {
                "shape": asdict(shape),
                "precision": precision.name,
                "cuts": rows,
                "right": all(row["apart"] <= 1e-5 for row in rows),
            }


def _spread(plans: Sequence[Any]) -> list[Any]:
    """The best few by the model, at most two splits of one tile."""
    taken: dict[Any, int] = {}
    found = []
    for plan in plans:
        tile = (plan.blocks.co, plan.blocks.ci, plan.blocks.warps)
        if taken.get(tile, 0) < 2:
            taken[tile] = taken.get(tile, 0) + 1
            found.append(plan)
    return found[:MOST]
