"""What this device can do, measured in the same run as what is held against it: memory bandwidth and product rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from approxtrain.bench.kernel_cases import Precision

ASSUMED_CACHE = 128 << 20
"""Bytes of the last-level cache where the machine does not tell, as a GPU: no GPU of today has more."""
SAMPLES = 7


@dataclass(frozen=True)
class Machine:
    """Measured limits of the device."""

    bandwidth: float
    """Bytes a second of a large copy on the device: what it reads and what it writes."""
    rates: dict[str, float]
    """Precision → floating-point operations a second of one large matrix product."""
    cache: int
    """Bytes of the last-level cache."""
    cache_is: str
    """"told by the machine" or "assumed"."""
    dispatch: float
    """Seconds that a call costs which computes nothing."""

    def floor(self, flops: float, moved: float, precision: str) -> float:
        """Seconds below which nothing on this device can do so much: the roofline."""
        return max(moved / self.bandwidth, flops / self.rates[precision])

    def as_json(self) -> dict[str, Any]:
        return {
            "bandwidth_gb_s": self.bandwidth / 1e9,
            "gflop_s": {name: rate / 1e9 for name, rate in self.rates.items()},
            "last_level_cache_bytes": self.cache,
            "last_level_cache": self.cache_is,
            "dispatch_us": 1e6 * self.dispatch,
        }


def measure(precisions: list[Precision]) -> Machine:
    """Starts jax's backend."""
    on_gpu = jax.default_backend() == "gpu"
    told = None if on_gpu else _cpu_cache()
    cache = told or ASSUMED_CACHE
    return Machine(
        bandwidth=_bandwidth((1 << 30) if on_gpu else max(4 * cache, 64 << 20)),
        rates={each.name: _rate(each, 8192 if on_gpu else 1024) for each in precisions},
        cache=cache,
        cache_is="told by the machine" if told else "assumed",
        dispatch=_dispatch(),
    )


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """What is traced inside computes at this precision. A CPU has one way only and is left as its users have it."""
    if precision.matmul is None or jax.default_backend() == "cpu":
        yield
        return
    with jax.default_matmul_precision(precision.matmul):
        yield


def _bandwidth(size: int) -> float:
    """Copy with the sign turned, into a buffer that exists: the cost of making memory is not the cost of moving it."""
    count = size // 4
    source, target = jnp.ones(count, jnp.float32), jnp.zeros(count, jnp.float32)
    copy = jax.jit(lambda source, target: -source, donate_argnums=1, keep_unused=True)

    def call() -> Any:
        nonlocal target
        target = copy(source, target)
        return target

    return 2 * 4 * count / _seconds(call)


def _rate(precision: Precision, size: int) -> float:
    # random, because a GPU multiplies equal numbers faster than it multiplies any others
    operands = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32).astype(precision.dtype)
    with matmul_precision(precision):
        product = jax.jit(lambda operands: operands[0] @ operands[1]).lower(operands).compile()
    return 2 * size**3 / _seconds(lambda: product(operands))


def _dispatch() -> float:
    operand = jnp.zeros(8)
    nothing = jax.jit(lambda operand: operand[0]).lower(operand).compile()
    return _seconds(lambda: nothing(operand).block_until_ready(), calls=100)


def _seconds(call: Callable[[], Any], calls: int | None = None) -> float:
    """Median seconds of a call; on a GPU they queue up, so that waiting for one is not in the time of another."""
    seconds, calls = [], calls or (10 if jax.default_backend() == "gpu" else 1)
    for _ in range(2 + SAMPLES):
        start, result = time.perf_counter(), None
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)
        seconds.append((time.perf_counter() - start) / calls)
    return median(seconds[2:])


def _cpu_cache() -> int | None:
    """The largest cache that Linux lists for the first core."""
    files = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max(
        (int(text[:-1]) << 10 for file in files if (text := file.read_text().strip()).endswith("K")), default=None
    )
