"""Whether every form of `approx` computes the right thing on this device, and the same bits each time.

Small shapes that fit no tile: odd sizes, few and many channels, strides, kernels of 1, 3 and 5. They are held against
the method's float64 oracle, on the inputs as they are after rounding to the type.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain.bench.machine import matmul_precision
from approxtrain.bench.plan import PRECISIONS, Precision
from approxtrain_kernels import ConvShape, conv_shape
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import plans
from approxtrain_kernels.pallas.devices import device_of
from approxtrain_kernels.pallas.plan import Plan
from approxtrain_kernels.pallas.wgrad import estimate

SHAPES = (
    conv_shape((4, 14, 14, 24), 40, (3, 3)),
    conv_shape((5, 15, 13, 16), 32, (3, 3), (2, 2)),
    conv_shape((6, 9, 9, 3), 64, (5, 5)),
    conv_shape((3, 7, 10, 70), 33, (1, 1), (2, 1), "VALID"),
    conv_shape((130, 2, 2, 64), 64, (3, 3)),
)
KEPT = {"float32": (1, 2, 4, 20), "tf32": (1,), "bfloat16": (1, 3), "float16": (1, 3)}
SPECIAL = ("ties", "zeros", "nan", "infinity")
RUNS = 20
THREADS = 8


@dataclass(frozen=True)
class Case:
    shape: ConvShape
    precision: Precision
    k: int
    plan: Plan
    inputs: str = "random"

    def arrays(self) -> tuple[jax.Array, jax.Array]:
        rng = np.random.default_rng(self.k)
        x = np.maximum(rng.standard_normal(self.shape.x_shape, np.float32), 0)
        dy = rng.standard_normal(self.shape.y_shape, np.float32)
        if self.inputs == "ties":
            dy = np.sign(dy)
        elif self.inputs == "zeros":
            dy[..., ::2] = 0
        elif self.inputs == "nan":
            dy[1, 2, 3, 4] = np.nan
        elif self.inputs == "infinity":
            dy[1, 2, 3, 4] = np.inf
        return jnp.asarray(x, self.precision.dtype), jnp.asarray(dy, self.precision.dtype)


def cases() -> Iterator[Case]:
    device = device_of(jax.devices()[0].device_kind)
    for precision in PRECISIONS.values():
        tf32 = precision.name != "float32"
        for shape in SHAPES:
            for k in KEPT[precision.name]:
                if k < shape.y_shape[1] * shape.y_shape[2]:
                    for plan in plans(shape, k, precision.dtype, tf32=tf32, device=device):
                        yield Case(shape, precision, k, plan)
    shape = SHAPES[0]
    for name in ("float32", "tf32", "bfloat16"):  # the tensor form has no strict float32
        precision = PRECISIONS[name]
        for inputs in SPECIAL:
            for plan in plans(shape, 1, precision.dtype, tf32=name != "float32", device=device):
                yield Case(shape, precision, 1, plan, inputs)


def run() -> Iterator[dict[str, Any]]:
    """A row for each case, in order. Compilation runs ahead in threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(row, cases())


def row(case: Case, runs: int = RUNS) -> dict[str, Any]:
    what = {
        "shape": asdict(case.shape),
        "precision": case.precision.name,
        "k": case.k,
        "form": case.plan.form,
        "inputs": case.inputs,
        "tolerance": case.precision.tolerance,
    }
    try:
        return what | _judge(case, runs)
    except Exception as error:  # one form that does not compile must not hide the others
        return what | {"right": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def _judge(case: Case, runs: int) -> dict[str, Any]:
    x, dy = case.arrays()
    with matmul_precision(case.precision):
        call = jax.jit(partial(estimate, shape=case.shape, k=case.k, plan=case.plan)).lower(x, dy).compile()
    found = [np.asarray(call(x, dy)) for _ in range(runs)]
    same = all(again.tobytes() == found[0].tobytes() for again in found)
    with np.errstate(invalid="ignore"):
        exact = make("approx", k=case.k).oracle(np.asarray(x, np.float64), np.asarray(dy, np.float64), case.shape)
        if exact is None:
            raise ValueError("approx has no oracle")
        finite = np.isfinite(exact)
        pattern = bool((np.isfinite(found[0]) == finite).all())
        largest = np.abs(exact[finite]).max()
        error = float(np.abs(found[0].astype(np.float64) - exact)[finite].max() / max(largest, 1e-30))
    return {
        "relative_error": error if np.isfinite(error) else None,
        "not_finite_where_due": pattern,
        "same_bits": same,
        "runs": runs,
        # The dense form's wgrad is cuDNN's, which adds in any order unless XLA is told --xla_gpu_deterministic_ops.
        "right": error <= case.precision.tolerance and pattern and (same or case.plan.form == "dense"),
    }
