"""What an older JSON of `bench-kernel` says beside a newer one.

A comparison is refused where the two were not measured alike: another device, other versions of jax, other flags,
another clock. Our own version may differ: to see what a change of ours did is what the comparison is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_report import SCHEMA, kernel_row
from approxtrain.bench.timing import Times, ratio
from approxtrain.errors import ConfigError

ALIKE = ("device", "device_platform", "processor", "cpu_count", "xla_flags", "cpu_convolutions", "freed_memory_kept")

Document = Mapping[str, Any]


class Change(NamedTuple):
    """The subject of a row that both files have, with one of its caches."""

    row: Mapping[str, Any]
    cache: str
    then_ms: float
    now_ms: float
    ratio: dict[str, Any]
    """Time now over time then."""


def read(path: Path, cases: Sequence[Case]) -> Document:
    """An older result; ConfigError where it is none, or of another layout than today's, or has none of these cases."""
    try:
        old = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"`--compare`: {path} cannot be read: {error}.") from None
    if not isinstance(old, dict) or old.get("command") != "bench-kernel":
        raise ConfigError(f"`--compare`: {path} was not written by `approxtrain bench-kernel --json`.")
    if (schema := old.get("schema", "none")) != SCHEMA:
        raise ConfigError(f"`--compare`: {path} has the schema {schema}, and this version reads {SCHEMA}.")
    keys = {_key(row, times) for row in old["rows"] for times in _by_cache(row)}
    if not any(_key(kernel_row(case, {}, (), ()), {"cache": "cold"}) in keys for case in cases):
        raise ConfigError(f"`--compare`: {path} has none of these shapes by this method and in this dtype.")
    return old


def check_alike(old: Document, environment: Mapping[str, Any], clock: str) -> None:
    """Raises ConfigError where the older one was measured elsewhere, or by another clock."""
    then = _measured_where(old["environment"], old["timer"]["name"])
    now = _measured_where(environment, clock)
    if different := [f"{name} was {then[name]!r} and is {now[name]!r}" for name in now if then[name] != now[name]]:
        raise ConfigError(
            f"`--compare`: it was not measured like this: {'; '.join(different)}. Times cannot be compared; measure "
            "it again here."
        )


def changes(old: Document, new: Document) -> Iterator[Change]:
    """Row by row, with each cache, what both have."""
    then = {_key(row, times): times for row in old["rows"] for times in _by_cache(row)}
    for row in new["rows"]:
        for times in _by_cache(row):
            if _key(row, times) in then:
                subject = "method" if "dense" in times["milliseconds"] else "ours"
                samples = (each["milliseconds"][subject] for each in (times, then[_key(row, times)]))
                after, before = map(Times.of_milliseconds, samples)
                change = ratio(after, before, together=False).as_json()
                yield Change(row, times["cache"], 1e3 * before.median, 1e3 * after.median, change)


def _measured_where(environment: Mapping[str, Any], clock: str) -> dict[str, Any]:
    versions = environment.get("versions", {})
    jax = {name: versions.get(name) for name in ("jax", "jaxlib")}
    return {name: environment.get(name) for name in ALIKE} | jax | {"timer": clock}


def _by_cache(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row, *row["also"].values()] if row["milliseconds"] else []


def _key(row: Mapping[str, Any], times: Mapping[str, Any]) -> str:
    return json.dumps([row["shape"], row["dtype"], row["part"], row["method"], times["cache"]], sort_keys=True)
