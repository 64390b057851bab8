"""How long each form of `approx` takes on this device, and each kernel of it: what the model in `choose.py` is held to.

    wall      calls follow each other without waiting, on inputs that go round sets larger than twice the L2 cache
    kernels   each kernel's time on the device by CUPTI, inputs in the cache; without gaps between kernels

A form that computes the wrong thing is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain.bench.contenders import estimator
from approxtrain.bench.machine import matmul_precision
from approxtrain.bench.plan import PRECISIONS, Precision
from approxtrain_kernels import ConvShape
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import choose, full, plans
from approxtrain_kernels.pallas.devices import device_of
from approxtrain_kernels.pallas.wgrad import estimate

CACHE = 64 << 20
MOST_SETS = 16
CUDNN_ERROR = 10
"""Times the tolerance: in strict float32 cuDNN takes Winograd's algorithm, whose error was up to 3.4e-5."""
CHANNELS = 8
"""Output channels that are checked."""
CALLS = 64
"""In a row, for one sample."""
SAMPLES = 7
PROFILED = 10


def run(shapes: Sequence[ConvShape], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each shape and precision: what the model says, what was measured."""
    device = device_of(jax.devices()[0].device_kind)
    for precision in (PRECISIONS[name] for name in names):
        model = {"tf32": precision.name != "float32", "device": device}
        for shape in shapes:
            sets = _inputs(shape, precision)
            of = (shape, 1, precision.dtype)
            contenders: dict[str, Any] = {
                "full": (full(shape, precision.dtype, **model), estimator(make("full"), shape), "full")
            }
            for plan in plans(*of, **model):
                contenders[plan.form] = (plan, partial(estimate, shape=shape, k=1, plan=plan), "approx")
            oracle = {method: _oracle(method, *sets[0], shape) for method in ("full", "approx")}
            rows = {}
            for name, (plan, function, method) in contenders.items():
                tolerance = precision.tolerance * (CUDNN_ERROR if method == "full" else 1)
                found = _measure(function, sets, precision, oracle[method], tolerance)
                rows[name] = {"model": asdict(plan)} | found
            yield {
                "shape": asdict(shape),
                "precision": precision.name,
                "input_sets": len(sets),
                "chosen": choose(*of, **model).form,
                "forms": rows,
                "right": not any("failed" in row for row in rows.values()),
            }


def _inputs(shape: ConvShape, precision: Precision) -> list[tuple[jax.Array, jax.Array]]:
    """Sets of inputs that do not fit in the cache together."""
    size = precision.itemsize * (np.prod(shape.x_shape) + np.prod(shape.y_shape))
    sets = []
    for seed in range(int(np.clip(-(-2 * CACHE // size), 2, MOST_SETS))):
        keys = jax.random.split(jax.random.key(seed))
        x = jnp.maximum(jax.random.normal(keys[0], shape.x_shape), 0)
        dy = jax.random.normal(keys[1], shape.y_shape)
        sets.append((x.astype(precision.dtype), dy.astype(precision.dtype)))
    return sets


def _looked_at(count: int, channels: int) -> np.ndarray:
    """Some output channels, the first and the last among them: float64 takes too long for all."""
    return np.linspace(0, channels - 1, count).round().astype(int)


def _oracle(method: str, x: jax.Array, dy: jax.Array, shape: ConvShape) -> np.ndarray:
    """The method's oracle for the channels that are looked at: dW of one channel depends on no other."""
    count = min(CHANNELS, shape.out_channels)
    some = np.asarray(dy, np.float32)[..., _looked_at(count, shape.out_channels)]
    oracle = make(method).oracle(np.asarray(x, np.float32), some, replace(shape, out_channels=count))
    if oracle is None:
        raise ValueError(f"{method} has no oracle")
    return oracle


def _measure(
    function: Callable[..., jax.Array],
    sets: list[tuple[jax.Array, jax.Array]],
    precision: Precision,
    oracle: np.ndarray,
    tolerance: float,
) -> dict[str, Any]:
    try:
        with matmul_precision(precision):
            call = jax.jit(function).lower(*sets[0]).compile()
        found = np.asarray(call(*sets[0]), np.float64)[..., _looked_at(oracle.shape[-1], sets[0][1].shape[-1])]
    except Exception as error:  # one form that does not compile must not hide the others
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    error = float(np.abs(found - oracle).max() / np.abs(oracle).max())
    if not error <= tolerance:
        return {"failed": f"relative error {error:.1e}"}
    samples = [_wall(call, sets) for _ in range(2 + SAMPLES)][2:]
    return {
        "relative_error": error,
        "wall_us": [1e6 * seconds for seconds in samples],
        "wall_us_median": 1e6 * median(samples),
        "kernels_us": _kernels(call, sets[0]),
    }


def _wall(call: Callable[..., jax.Array], sets: list[tuple[jax.Array, jax.Array]]) -> float:
    start = time.perf_counter()
    results = [call(*sets[number % len(sets)]) for number in range(CALLS)]
    results[-1].block_until_ready()  # one stream: the last is done last
    return (time.perf_counter() - start) / CALLS


def _kernels(call: Any, arguments: tuple[jax.Array, jax.Array]) -> list[tuple[str, float]] | str:
    """(kernel, median µs) in the order of their launch; what went wrong where CUPTI does not answer."""
    try:
        from jax.experimental.mosaic.gpu.profiler import Cupti

        profiled = Cupti(finalize=False).measure(call, aggregate=False, iterations=PROFILED)
        taken: Any = profiled(*arguments)[1]
        if not taken:
            return "CUPTI saw no kernel"
        return [(name[:80], 1e3 * median(run[number][1] for run in taken)) for number, (name, _) in enumerate(taken[0])]
    except Exception as error:  # the wall clock's times stand without it
        return f"CUPTI: {type(error).__name__}"
