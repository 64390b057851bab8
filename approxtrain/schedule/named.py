"""The named schedules, read from `named.toml`: definitions in the grammar of `[schedule]` itself."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Named:
    """One entry: rules (TOML tables without a method of their own), or a literal grid of method names."""

    name: str
    summary: str
    rules: tuple[dict[str, Any], ...] = ()
    grid: tuple[tuple[str, ...], ...] | None = None

    @property
    def takes_method(self) -> bool:
        """Whether `schedule.method` says what the rules put into their cells."""
        return bool(self.rules)


@cache
def named() -> dict[str, Named]:
    """Name → definition, in the order of the file."""
    text = resources.files("approxtrain.schedule").joinpath("named.toml").read_text(encoding="utf-8")
    return {name: _entry(name, **table) for name, table in tomllib.loads(text).items()}


def _entry(
    name: str, *, summary: str, rules: list[dict[str, Any]] | None = None, grid: list[list[str]] | None = None
) -> Named:
    return Named(name, summary, tuple(rules or ()), tuple(tuple(row) for row in grid) if grid else None)
