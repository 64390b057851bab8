"""Whether a configuration is still that of the run that is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from approxtrain.errors import ConfigError

RESUMABLE = ("train.epochs", "train.checkpoint_every", "data.dir")
"""What may change when a run is resumed: nothing that touches its steps. (Images that moved are checked by SHA-256.)"""


def refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """ConfigError with every difference between two plain configurations but RESUMABLE; and epochs only grow."""
    old, new, epochs = dict(_flat(before)), dict(_flat(after)), "train.epochs"
    problems = [
        f"{key}: it was {old.get(key)!r} and cannot become {new.get(key)!r}; a resumed run may only change "
        f"{', '.join(RESUMABLE)}. For another run, start one with another --out."
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in RESUMABLE
    ]
    if new[epochs] < old[epochs]:
        problems.append(f"{epochs}: it was {old[epochs]} and can only grow, not become {new[epochs]}.")
    if problems:
        raise ConfigError(problems)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
