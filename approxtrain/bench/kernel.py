"""Table 1 on this device: the dense weight gradient against a method's, one convolution at a time.

A row is checked against the method's float64 oracle before anything is timed; a row that fails has no times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain.bench.timing import Ratio, Times, interleaved, ratio
from approxtrain_kernels import ConvShape, Method
from approxtrain_kernels.methods.full import Full

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
"""Largest error, as a share of max |dW|, that still counts as correct."""


@dataclass(frozen=True)
class Row:
    """One shape. `times` is None where a check failed."""

    shape: ConvShape
    errors: dict[str, float]
    """Of "dense" and of the method: max |error| / max |dW| against float64."""
    failed: tuple[str, ...]
    times: dict[str, Times] | None

    @property
    def ratio(self) -> Ratio | None:
        """Time of the method over that of dense."""
        return ratio(self.times["method"], self.times["dense"]) if self.times else None

    def as_json(self) -> dict[str, Any]:
        found = self.ratio
        return {
            "shape": asdict(self.shape),
            "relative_error": self.errors,
            "failed": list(self.failed),
            "milliseconds": {name: [1e3 * s for s in times.seconds] for name, times in (self.times or {}).items()},
            "ratio": None if found is None else asdict(found) | {"verdict": found.verdict},
        }


def run(shapes: Sequence[ConvShape], method: Method, dtype: str, rounds: int) -> Iterator[Row]:
    """Check and time one shape after the other."""
    for number, shape in enumerate(shapes):
        yield _row(shape, method, dtype, rounds, seed=number)


def _row(shape: ConvShape, method: Method, dtype: str, rounds: int, seed: int) -> Row:
    x, dy = inputs(shape, dtype, seed)
    contenders = {"dense": Full(), "method": method}
    calls: dict[str, Callable[[], Any]] = {}
    errors = {}
    for name, rule in contenders.items():
        compiled = jax.jit(_estimator(rule, shape)).lower(x, dy).compile()
        exact = rule.oracle(np.asarray(x, np.float32), np.asarray(dy, np.float32), shape)
        errors[name] = _error(compiled(x, dy), exact)
        calls[name] = lambda compiled=compiled: compiled(x, dy).block_until_ready()
    failed = tuple(name for name, error in errors.items() if not error <= TOLERANCE[dtype])
    return Row(shape, errors, failed, None if failed else interleaved(calls, rounds))


def inputs(shape: ConvShape, dtype: str, seed: int) -> tuple[jax.Array, jax.Array]:
    """x with the zeros that a ReLU leaves, dy normal."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal(shape.x_shape, np.float32), 0)
    dy = rng.standard_normal(shape.y_shape, np.float32)
    return jnp.asarray(x, dtype), jnp.asarray(dy, dtype)


def _estimator(method: Method, shape: ConvShape) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda x, dy: method.estimate(x, dy, shape=shape, dtype=x.dtype, key=None, implementation=None)


def _error(found: jax.Array, exact: np.ndarray | None) -> float:
    """max |error| / max |dW|; NaN where there is nothing to compare with, which counts as a failure."""
    if exact is None:
        return float("nan")
    difference = np.abs(np.asarray(found, np.float64) - exact).max()
    return float(difference / max(np.abs(exact).max(), 1e-30))
