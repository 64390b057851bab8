"""The JSON of `bench-kernel`, and what an older one says beside a newer one. Imports no jax.

A comparison is refused where the two were not measured alike: another device, other versions of jax, other flags,
another clock. Our own version may differ: to see what a change of ours did is what the comparison is for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from approxtrain.bench.kernel_row import Row
from approxtrain.bench.machine import Machine
from approxtrain.bench.plan import Case
from approxtrain.bench.timing import Ratio, Times, ratio_of_runs
from approxtrain.errors import ConfigError

SCHEMA = 2
ALIKE = ("device", "device_platform", "processor", "cpu_count", "xla_flags", "cpu_convolutions", "freed_memory_kept")


def document(
    asked: dict[str, Any],
    environment: dict[str, Any],
    machine: Machine,
    timer: dict[str, str],
    torch: dict[str, Any] | None,
    rows: Sequence[Row],
    caches: Sequence[str],
) -> dict[str, Any]:
    """All that was measured, and where. `asked` are the options of the call."""
    return {
        "schema": SCHEMA,
        "command": "bench-kernel",
        **asked,
        "timer": timer,
        "torch": torch,
        "machine": machine.as_json(),
        "environment": environment,
        "rows": [row.as_json(caches) for row in rows],
    }


@dataclass(frozen=True)
class Change:
    """A row that both files have."""

    case: Case
    cache: str
    old: Times
    new: Times

    @property
    def ratio(self) -> Ratio:
        """Time now over time then."""
        return ratio_of_runs(self.new, self.old)


class Old:
    """An older result."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where it is no result of `bench-kernel`, or of another layout than today's."""
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"`--compare`: {path} cannot be read: {error}.") from None
        if not isinstance(found, dict) or found.get("command") != "bench-kernel":
            raise ConfigError(f"`--compare`: {path} was not written by `approxtrain bench-kernel --json`.")
        if found.get("schema") != SCHEMA:
            schema = found.get("schema", "none")
            raise ConfigError(
                f"`--compare`: {path} has the schema {schema}, and this version reads {SCHEMA}: measure it again."
            )
        self._path, self._found = path, found

    def check(self, environment: dict[str, Any], timer: str) -> None:
        """Raises ConfigError where it was measured elsewhere or by another clock."""
        then, now = (_measured_where(each) for each in (self._found["environment"], environment))
        then["timer"], now["timer"] = self._found["timer"]["name"], timer
        different = [f"{name} was {then[name]!r} and is {now[name]!r}" for name in now if then[name] != now[name]]
        if different:
            raise ConfigError(
                f"`--compare`: {self._path} was not measured like this: {'; '.join(different)}. The times cannot be "
                "compared; --force does it all the same."
            )

    def check_cases(self, cases: Sequence[Case], caches: Sequence[str]) -> None:
        """Raises ConfigError where it has none of these."""
        if not any(self._samples(case, cache) for case in cases for cache in caches):
            raise ConfigError(f"`--compare`: {self._path} has none of these shapes by this method and in this dtype.")

    def changes(self, rows: Sequence[Row], caches: Sequence[str]) -> list[Change]:
        """The rows that both have."""
        found = []
        for row in rows:
            for cache in caches if row.measured else ():
                new = row.measured[cache]
                old = self._samples(row.case, cache)
                if old:
                    found.append(Change(row.case, cache, Times.of_milliseconds(old), new.subject))
        return found

    def _samples(self, case: Case, cache: str) -> list[float] | None:
        """Those of the subject of the same case."""
        wanted = _key(json.loads(json.dumps(asdict(case.shape))), case)
        for row in self._found["rows"]:
            one = (row["shape"], row["dtype"], row["part"], row["method"], row["implementation"])
            if one == wanted and row["milliseconds"]:
                measured = row if row["cache"] == cache else row["also"].get(cache)
                return measured and measured["milliseconds"][case.subject]
        return None


def _key(shape: dict[str, Any], case: Case) -> tuple[Any, ...]:
    return shape, case.precision.name, case.part, case.method.label, case.implementation


def _measured_where(environment: dict[str, Any]) -> dict[str, Any]:
    versions = environment.get("versions", {})
    return {name: environment.get(name) for name in ALIKE} | {name: versions.get(name) for name in ("jax", "jaxlib")}
