"""Whether the paper's second observation holds: dense wgrad grows with C_i · H·W, its kernel with C_i alone.

Both times are fitted as a · C_i^p · (H·W)^q over the shapes of Table 1. In all of these C_o = C_i, so that p is the
exponent of both together: it tells that a time grows with the channels, not with which. What tells the two apart is q.
Imports no jax.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from approxtrain.paper import experiments
from approxtrain.report.power_law import PowerLaw, power_law

CHANNELS, MAP = "C_i", "H·W"
HOLDS, FAILS, INCONCLUSIVE = "holds", "does not hold", "inconclusive"
NEARER = 0.5
"""An exponent whose interval lies above it is nearer to 1, one whose interval lies below it nearer to 0."""


def observation(dense: PowerLaw, kernel: PowerLaw) -> str:
    """The verdict: with the channels both grow, with the map the dense one alone."""
    growing = (dense.exponents[CHANNELS], dense.exponents[MAP], kernel.exponents[CHANNELS])
    still = kernel.exponents[MAP]
    if any(each.high < NEARER for each in growing) or still.low > NEARER:
        return FAILS
    return HOLDS if all(each.low > NEARER for each in growing) and still.high < NEARER else INCONCLUSIVE


def of_paper() -> dict[str, Any]:
    """The fits of the times that the paper prints, and their verdict."""
    rows = experiments.get("table1").kernel_rows
    sizes = [(row.in_channels, row.size**2) for row in rows]
    return _fitted(sizes, [row.cudnn for row in rows], [row.kernel for row in rows])


def of_document(document: dict[str, Any]) -> dict[str, Any]:
    """The fits of a JSON of `bench-kernel` with a method, for each of its caches and dtypes: "cold, float32" → fits.

    Medians of the dense base and of the method; a combination with too few shapes that were timed is left out.
    """
    found: dict[str, dict[tuple[int, int], tuple[float, float]]] = {}
    for row in document["rows"]:
        shape = row["shape"]
        for measured in (row, *row.get("also", {}).values()) if row.get("milliseconds") else ():
            times = measured["milliseconds"]
            place = shape["in_channels"], shape["height"] * shape["width"]
            key = f"{measured['cache']}, {row['dtype']}"
            found.setdefault(key, {})[place] = median(times["dense"]), median(times["method"])
    return {key: _fitted(list(each), *zip(*each.values(), strict=True)) for key, each in found.items() if len(each) > 3}


def _fitted(
    sizes: Sequence[tuple[int, int]], dense_times: Sequence[float], kernel_times: Sequence[float]
) -> dict[str, Any]:
    channels, maps = zip(*sizes, strict=True)
    columns = {CHANNELS: channels, MAP: maps}
    dense, kernel = power_law(columns, dense_times), power_law(columns, kernel_times)
    return {"dense": dense.as_json(), "kernel": kernel.as_json(), "second_observation": observation(dense, kernel)}
