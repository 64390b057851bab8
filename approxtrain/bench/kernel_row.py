"""A row of `bench-kernel`'s table: what was wrong and what was measured of one case. Imports no jax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from approxtrain.bench.measured import Measured
from approxtrain.bench.plan import Case


@dataclass
class Row:
    """One case. `measured` is empty where a check failed."""

    case: Case
    errors: dict[str, float]
    """Contender → max |error| / max |exact value| against float64, the largest of all runs that were checked."""
    failed: tuple[str, ...]
    """Contenders that are wrong. A peer that is wrong is left out of the times."""
    measured: dict[str, Measured] = field(default_factory=dict)
    """Cache → times."""
    interpreted: dict[str, Any] | None = None
    """The method's Pallas kernel on a CPU: an error on a few images, no time. None: it has none, or runs itself."""

    @property
    def wrong(self) -> bool:
        """Whether anything at all was wrong."""
        return bool(self.failed) or bool(self.interpreted and self.interpreted["failed"])

    def as_json(self, caches: Sequence[str]) -> dict[str, Any]:
        """The first of `caches` is the row's own, the other is beside it."""
        case, first, *others = self.case, *caches
        own = self.measured[first].as_json() if self.measured else {"milliseconds": {}, "ratio": None}
        return {
            "shape": asdict(case.shape),
            "dtype": case.precision.name,
            "part": case.part,
            "method": case.method.label,
            "implementation": case.implementation,
            "relative_error": {name: number(error) for name, error in self.errors.items()},
            "tolerance": case.precision.tolerance,
            "failed": list(self.failed),
            "pallas_interpreted": self.interpreted,
            **own,
            "also": {name: self.measured[name].as_json() for name in others if name in self.measured},
        }


def number(value: float) -> float | str:
    """JSON has no NaN and no infinity."""
    return value if isfinite(value) else str(value)
