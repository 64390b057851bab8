"""The gate before the clock: a contender whose result is not right to the tolerance is not timed.

What is right is computed in float64 by NumPy from the equation, from the very numbers that the contender got.

A program that leaves part of its result unwritten may still look right: the memory it was given can hold a right
result from before, or zeros. So each contender is run on other inputs first, the memory that it may get next is filled
with NaN, and then it is run, twice, on inputs whose result nobody has computed yet: the check has numbers of its own,
with another factor for every contender. Its results are compared only then. After the timing it runs once more and is
compared again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import jax.numpy as jnp
import numpy as np

from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_contenders import Inputs, KernelContender, draw
from approxtrain_kernels import ConvShape, exact

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


@dataclass
class Gate:
    """Checks the contenders of one case."""

    case: Case
    seed: int
    errors: dict[str, float] = field(default_factory=dict)
    """Contender → the largest error so far, as a share of max |exact value|."""

    def __post_init__(self) -> None:
        self._base = draw(self.case, self.seed)
        self._exact: dict[str, tuple[np.ndarray, ...]] = {}
        self._of_base = cache(self._compute_of_base)

    def check(self, contender: KernelContender, other: Inputs) -> bool:
        """Whether it is right. `other` are inputs that are not the check's: those that will be timed."""
        name = contender.name
        contender.compute(contender.load(other))
        fresh = self._fresh(name)
        operands = contender.load(fresh)
        _poison(self.case.shape)
        computed = [contender.compute(operands) for _ in range(2)]
        self._exact[name] = tuple(self._value(name, result, fresh) for result in contender.results)
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

    def _value(self, name: str, result: str, fresh: Inputs) -> np.ndarray:
        """What the contender should have computed; of a method, from its own inputs, for it need not be linear."""
        if result == "dw" and name in ("method", "vjp method"):
            return exact_method(self.case, fresh)
        if result == "dx" and name == "vjp method" and not self.case.method.exact_dgrad:
            x, w, dy = (_numbers(fresh[each]) for each in ("x", "w", "dy"))
            return self.case.method.dgrad_oracle(x, w, dy, self.case.shape, fresh.get("key"))
        return FACTORS[name] * self._of_base(result)

    def _compute_of_base(self, result: str) -> np.ndarray:
        x, w, dy = (_numbers(self._base[name]) for name in ("x", "w", "dy"))
        shape = self.case.shape
        if result == "dw":
            return exact.wgrad(x, dy, shape)
        return exact.forward(x, w, shape) if result == "y" else exact.dgrad(dy, w, shape)


def exact_method(case: Case, inputs: Inputs) -> np.ndarray:
    """dw by the method in float64; of one that draws, with the numbers that the contender drew."""
    return case.method.oracle(_numbers(inputs["x"]), _numbers(inputs["dy"]), case.shape, inputs.get("key"))


def relative_error(array: np.ndarray, exact: np.ndarray) -> float:
    """max |error| / max |exact|; NaN in either stays NaN."""
    if array.shape != exact.shape:
        raise ValueError(f"a result of shape {array.shape} cannot be compared with {exact.shape}.")
    return float(np.abs(array - exact).max() / max(np.abs(exact).max(), 1e-30))


def _numbers(array: object) -> np.ndarray:
    return np.asarray(array, np.float32)


def _poison(shape: ConvShape) -> None:
    """Fill memory of the result's size with NaN and give it back, so that it is what the next program is given."""
    for size in (shape.w_shape, shape.x_shape, shape.y_shape):
        filled = [jnp.full(size, jnp.nan, jnp.float32).block_until_ready() for _ in range(POISONS)]
        del filled
