"""Some cases of a large product at every `make check`, all of them each night."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import product
from typing import Any

import pytest


def chosen(cases: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters of a test: those named in `quick`, and the others marked `long`."""
    cases = list(cases)
    assert set(quick) <= set(cases), f"there is no case {set(quick) - set(cases)}"
    return [pytest.param(case, id=case, marks=[] if case in quick else pytest.mark.long) for case in cases]


def latin(*axes: Sequence[Any], others: pytest.MarkDecorator = pytest.mark.long) -> list[Any]:
    """All tuples of the product of `axes`, marked `others` but for a Latin selection.

    Tuples are kept whose positions add up to a multiple of the length of the last axis: each value of the last axis is
    kept once with every combination of the others.
    """
    parameters = []
    for positions in product(*(range(len(axis)) for axis in axes)):
        values = [axis[position] for axis, position in zip(axes, positions, strict=True)]
        name = "-".join(str(value) for value in values)
        marks = [] if sum(positions) % len(axes[-1]) == 0 else others
        parameters.append(pytest.param(*values, id=name, marks=marks))
    return parameters
