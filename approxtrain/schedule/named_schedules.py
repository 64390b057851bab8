"""The named schedules, which `named.toml` defines in the grammar of a configuration."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class NamedSchedule:
    """One entry: rules (TOML tables without a method of their own), or a literal grid of method names."""

    name: str
    summary: str
    rules: tuple[dict[str, Any], ...] = ()
    grid: tuple[tuple[str, ...], ...] = ()

    @property
    def takes_method(self) -> bool:
        """Whether `schedule.method` says what the rules put into their cells."""
        return bool(self.rules)


@cache
def named() -> dict[str, NamedSchedule]:
    """Name → definition, in the order of the file."""
    text = resources.files("approxtrain.schedule").joinpath("named.toml").read_text(encoding="utf-8")
    return {
        name: NamedSchedule(
            name, table["summary"], tuple(table.get("rules", ())), tuple(map(tuple, table.get("grid", ())))
        )
        for name, table in tomllib.loads(text).items()
    }
