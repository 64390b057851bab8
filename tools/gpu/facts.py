"""The device: its name and driver, what it can do, and whether plain operations give what NumPy gives.

A wrong answer of a plain operation means that nothing else that is measured here can be believed; it has happened with
single versions of jax and driver on single devices.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from approxtrain.bench import machine
from approxtrain.bench.plan import PRECISIONS
from approxtrain.run import record

QUERY = ("name", "driver_version", "memory.total", "clocks.sm", "clocks.mem", "clocks.max.sm", "temperature.gpu")


def facts() -> dict[str, Any]:
    """Raises nothing but what jax raises where it finds no device."""
    return {
        "environment": record.environment(),
        "nvidia_smi": _nvidia_smi(),
        "eager": list(_eager()),
        "machine": machine.measure(list(PRECISIONS.values())).as_json(),
    }


def _nvidia_smi() -> dict[str, str] | None:
    """What the driver says, before anything has warmed the device up; None where the tool is not there."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    first = done.stdout.splitlines()[0].split(",")
    return dict(zip(QUERY, (part.strip() for part in first), strict=False))


def _eager() -> Iterator[dict[str, Any]]:
    """Operations one by one, as a user at a prompt runs them."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 257, 257), np.float32)
    whole = rng.integers(-1000, 1000, 100_003, np.int32)
    x, w = rng.standard_normal((2, 9, 9, 8), np.float32), rng.standard_normal((1, 1, 8, 16), np.float32)
    highest = lax.Precision.HIGHEST
    pairs = {
        "sum": (jnp.sum(jnp.asarray(a)), a.sum(dtype=np.float64)),
        "sum of whole numbers": (jnp.sum(jnp.asarray(whole)), whole.sum()),
        "exp": (jnp.exp(jnp.asarray(a)), np.exp(a)),
        "matmul": (jnp.matmul(jnp.asarray(a), jnp.asarray(b), precision=highest), a.astype(np.float64) @ b),
        "cumsum": (jnp.cumsum(jnp.asarray(whole)), whole.cumsum()),
        "sort": (jnp.sort(jnp.asarray(whole)), np.sort(whole)),
        "argmax": (jnp.argmax(jnp.asarray(a), axis=0), a.argmax(axis=0)),
        "take": (jnp.take(jnp.asarray(whole), jnp.asarray(whole) % 977), whole[whole % 977]),
        "transpose": (jnp.transpose(jnp.asarray(x), (3, 1, 0, 2)), x.transpose(3, 1, 0, 2)),
        "bfloat16": (jnp.asarray(a).astype(jnp.bfloat16).astype(jnp.float32), a),
        "convolution": (
            lax.conv_general_dilated(
                jnp.asarray(x),
                jnp.asarray(w),
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision=highest,
            ),
            x.astype(np.float64) @ w[0, 0],
        ),
    }
    for name, (found, expected) in pairs.items():
        difference = np.abs(np.asarray(found, np.float64) - expected).max() / max(float(np.abs(expected).max()), 1e-30)
        limit = 2**-8 if name == "bfloat16" else 1e-5
        yield {"operation": name, "relative_error": float(difference), "right": bool(difference <= limit)}
