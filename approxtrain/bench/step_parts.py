"""What a step's convolutions cost when each runs alone, and from that the bound of a schedule.

    split   T_full = forward + dgrad + wgrad + rest, the first three summed over the layers; layer 1 has no dgrad
    bound   T_full − Σ over the replaced cells of share · T_wgrad(layer) − Σ over the dgrads that a frozen prefix leaves
            out of T_dgrad(layer), averaged over the steps of a period

`share` is what the method leaves out of the dense product, 1 − its FLOPs over the product's: all but 1 for zero and
approx, 1 − 1/r² for pooled. Norms and ReLUs that a frozen prefix leaves out are in no part, so that such a schedule may
save more than its bound. A convolution alone is timed as a program of its own, several times in a row, so that its
arrays are in the cache if they fit, as those are in a step that the operation before has just written. Inside of a step
it may find less in the cache, and overlap with another operation: the rest, and the share of a bound that is reached,
have that in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain.bench.timing import Times
from approxtrain.models import Model
from approxtrain.schedule import Schedule
from approxtrain.schedule.frozen_prefix import prefix
from approxtrain_kernels import ConvShape, dense

PARTS = ("forward", "dgrad", "wgrad")
REPEATS, QUEUED = 4, 20
"""Runs of a convolution in one sample: on a CPU each is waited for, on a GPU the last one."""


@dataclass(frozen=True)
class LayerConvolution:
    """One of the three convolutions of the layers that have one shape."""

    kind: str
    shape: ConvShape
    layers: tuple[int, ...]
    run: Callable[[], None]
    repeats: int
    """Times that `run` runs it."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.layers[0]}"


def total(parts: Sequence[LayerConvolution], kind: str, times: Mapping[str, Times]) -> np.ndarray:
    """Seconds of all layers' convolutions of a kind, in each round."""
    return sum((len(p.layers) * np.asarray(times[p.name].seconds) for p in parts if p.kind == kind), np.zeros(1))


def saved(parts: Sequence[LayerConvolution], schedule: Schedule, steps: int, times: Mapping[str, Times]) -> np.ndarray:
    """Seconds a step that the first `steps` of a schedule can save at most, in each round."""
    columns, seconds = [schedule.column(step) for step in range(steps)], np.zeros(1)
    for part in parts:
        if part.kind == "wgrad":
            methods = [column[layer - 1] for column in columns for layer in part.layers]
            left_out = sum(max(1 - method.flops(part.shape) / part.shape.flops, 0.0) for method in methods)
        elif part.kind == "dgrad" and schedule.frozen_prefix:
            left_out = sum(layer <= prefix(column) + 1 for column in columns for layer in part.layers)
        else:
            continue
        seconds = seconds + left_out * np.asarray(times[part.name].seconds)
    return seconds / steps


def build(model: Model, batch: int, dtype: Any) -> Iterator[LayerConvolution]:
    """The convolutions of a model, each distinct shape once."""
    repeats = QUEUED if jax.default_backend() == "gpu" else REPEATS
    layers: dict[tuple[ConvShape, bool], list[int]] = {}
    for layer in model.layers:
        layers.setdefault((replace(layer.shape, batch=batch), layer.number == 1), []).append(layer.number)
    for seed, ((shape, first), numbers) in enumerate(layers.items()):
        sizes = (shape.x_shape, shape.w_shape, shape.y_shape)
        keys = jax.random.split(jax.random.key(seed), 3)
        x, w, dy = (jax.random.normal(key, size, dtype) for key, size in zip(keys, sizes, strict=True))
        x = jnp.maximum(x, 0)  # with the zeros that a ReLU leaves
        operands = {"forward": (x, w), "dgrad": (dy, w), "wgrad": (x, dy)}
        for kind in PARTS if not first else ("forward", "wgrad"):
            function = jax.jit(partial(getattr(dense, kind), shape=shape))
            program = function.lower(*operands[kind]).compile()
            run = partial(_run, program, operands[kind], repeats)
            yield LayerConvolution(kind, shape, tuple(numbers), run, repeats)


def _run(program: Any, operands: tuple[jax.Array, ...], times: int) -> None:
    wait = jax.default_backend() == "cpu"
    results = [jax.block_until_ready(program(*operands)) if wait else program(*operands) for _ in range(times)]
    jax.block_until_ready(results[-1])
