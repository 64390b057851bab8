"""The gate before the clock: a contender whose result is not right to the tolerance is not timed.

What is right is computed in float64 by NumPy from the equation, from the very numbers that the contender got.

A program that leaves part of its result unwritten may still look right: the memory it was given can hold a right
result from before, or zeros. So each contender is run on other inputs first, the memory that it may get next is filled
with NaN, and then it is run, twice, on inputs whose result nobody has computed yet: the check has numbers of its own,
with another factor for every contender. Its results are compared only then. After the timing it runs once more and is
compared again.
"""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np

from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_contenders import OPERANDS, Inputs, KernelContender, draw
from approxtrain_kernels import exact

FACTORS = {
    "ours": 1.0,
    "xla": -1.0,
    "torch nchw": 2.0,
    "torch nhwc": -2.0,
    "vjp full": 4.0,
    "method": -4.0,
    "vjp method": 0.5,
}
"""Powers of two round nothing, and the largest keeps a float16 sum finite."""
POISONS = 4


class Gate:
    """Checks the contenders of one case."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.errors: dict[str, float] = {}
        """Contender → the largest error so far, as a share of max |exact value|."""
        self._base = draw(case, seed)
        self._exact: dict[str, tuple[np.ndarray, ...]] = {}
        self._of_base = cache(self._compute_of_base)

    def check(self, contender: KernelContender, other: Inputs) -> bool:
        """Whether it is right. `other` are inputs that are not the check's: those that will be timed."""
        name = contender.name
        contender.compute(contender.load(other))
        fresh = self._fresh(name)
        operands = contender.load(fresh)
        _poison(self.case)
        computed = [contender.compute(operands) for _ in range(2)]
        self._exact[name] = tuple(self._value(name, part, fresh) for part in contender.parts)
        for arrays in computed:
            self._compare(name, arrays)
        return self.right(name)

    def check_again(self, contender: KernelContender) -> bool:
        """Whether it still is, after it was timed."""
        self._compare(contender.name, contender.compute(contender.load(self._fresh(contender.name))))
        return self.right(contender.name)

    def right(self, name: str) -> bool:
        return self.errors[name] <= self.case.precision.tolerance

    def _fresh(self, name: str) -> Inputs:
        """The check's inputs with this contender's factor, which the result has as well."""
        scaled = "w" if self.case.part == "forward" else "dy"
        return self._base | {scaled: self._base[scaled] * FACTORS[name]}

    def _compare(self, name: str, arrays: tuple[np.ndarray, ...]) -> None:
        worst = [relative_error(array, exact) for array, exact in zip(arrays, self._exact[name], strict=True)]
        self.errors[name] = float(np.max([self.errors.get(name, 0.0), *worst]))  # NaN stays NaN

    def _value(self, name: str, part: str, fresh: Inputs) -> np.ndarray:
        """What the contender should have computed. Of a method from its own inputs, for it need not be linear, and with
        the numbers that it drew."""
        x, w, dy = (_numbers(fresh[each]) for each in ("x", "w", "dy"))
        method, shape, key = self.case.method, self.case.shape, fresh.get("key")
        if name in ("method", "vjp method") and part == "wgrad":
            return method.oracle(x, dy, shape, key)
        if name == "vjp method" and not method.exact_dgrad:
            return method.dgrad_oracle(x, w, dy, shape, key)
        return FACTORS[name] * self._of_base(part)

    def _compute_of_base(self, part: str) -> np.ndarray:
        operands = (_numbers(self._base[name]) for name in OPERANDS[part])
        return getattr(exact, part)(*operands, self.case.shape)


def relative_error(array: np.ndarray, exact: np.ndarray) -> float:
    """max |error| / max |exact|; NaN in either stays NaN."""
    if array.shape != exact.shape:
        raise ValueError(f"a result of shape {array.shape} cannot be compared with {exact.shape}.")
    return float(np.abs(array - exact).max() / max(np.abs(exact).max(), 1e-30))


def _numbers(array: object) -> np.ndarray:
    return np.asarray(array, np.float32)


def _poison(case: Case) -> None:
    """Fill memory of the result's size with NaN and give it back, so that it is what the next program is given."""
    for size in (case.shape.w_shape, case.shape.x_shape, case.shape.y_shape):
        filled = [jnp.full(size, jnp.nan, case.precision.dtype).block_until_ready() for _ in range(POISONS)]
        del filled
