"""Power laws: how a time grows with several sizes, t = a · Π x_i^p_i, by least squares in logarithms.

Imports no jax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Exponent:
    """A fitted p with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """A fit over `n` times."""

    coefficient: float
    """a, in the unit of the times."""
    exponents: dict[str, Exponent]
    """Size → p, how many times as fast as the size the time grows."""
    residual: float
    """Standard deviation of log t around the fit: 0.1 is 10 %."""
    n: int

    def as_json(self) -> dict[str, Any]:
        exponents = {name: [each.value, each.low, each.high] for name, each in self.exponents.items()}
        return {"coefficient": self.coefficient, "exponents": exponents, "residual": self.residual, "n": self.n}


def power_law(sizes: Mapping[str, Sequence[float]], times: Sequence[float]) -> PowerLaw:
    """Fit `times` (positive) by the sizes of the same length, with Student's t intervals of the exponents.

    ValueError where there are not more times than unknowns, or the sizes do not tell the exponents apart.
    """
    unknowns, n = 1 + len(sizes), len(times)
    if n <= unknowns:
        raise ValueError(f"{n} times do not say how sure {unknowns} unknowns are: it takes at least {unknowns + 1}.")
    matrix = np.column_stack([np.ones(n), *(np.log(np.asarray(each, float)) for each in sizes.values())])
    found, _, rank, _ = np.linalg.lstsq(matrix, np.log(np.asarray(times, float)))
    if rank < unknowns:
        raise ValueError(f"the sizes {', '.join(sizes)} vary together: their exponents cannot be told apart.")
    from scipy.special import stdtrit

    freedom = n - unknowns
    residual = math.sqrt(float(np.sum((np.log(np.asarray(times, float)) - matrix @ found) ** 2)) / freedom)
    deviations = residual * np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix)))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * deviations
    exponents = {
        name: Exponent(float(p), float(p - h), float(p + h))
        for name, p, h in zip(sizes, found[1:], half[1:], strict=True)
    }
    return PowerLaw(float(np.exp(found[0])), exponents, residual, n)
