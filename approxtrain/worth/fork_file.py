"""What came of forks (`forks.py`), and the file that they are kept in while there are more to come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError
from approxtrain.worth.alignment import Alignment


@dataclass(frozen=True)
class Fork:
    """What came of it, for each seed."""

    epoch: int
    first: int
    """The run's step at which it begins."""
    arm: str
    steps: int
    losses: list[float]
    accuracies: list[float]
    until: float = 1.0
    """The part of the steps that are by the schedule."""

    @property
    def end(self) -> int:
        """Steps of training when it ends, with those of the run before it."""
        return self.first + self.steps


class ForkFile:
    """The forks that are done, in a JSON file with the settings of which they came."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)
        self.forks: list[Fork] = []
        self.alignments: list[Alignment] = []
        self.more: dict[str, Any] = {}
        """What was written beside them."""
        if path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            found = json.loads(self.path.read_text("utf-8"))
            forks = [Fork(**row) for row in found["forks"]]
            alignments = [Alignment(**row) for row in found["alignments"]]
            settings = found["settings"]
            more = {name: value for name, value in found.items() if name not in ("forks", "alignments", "settings")}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"`{self.path}` is not what this command writes: give another --out.") from error
        if settings != self.settings:
            differing = sorted(k for k in settings.keys() | self.settings if settings.get(k) != self.settings.get(k))
            raise ConfigError(
                f"`{self.path}` holds a measurement with other settings ({', '.join(differing)}): give another --out, "
                "or repeat the command that it came of, which then goes on."
            )
        self.forks, self.alignments, self.more = forks, alignments, more

    def has(self, epoch: int, arm: str) -> bool:
        return any((fork.epoch, fork.arm) == (epoch, arm) for fork in self.forks)

    def has_alignments(self, epoch: int) -> bool:
        return any(found.epoch == epoch for found in self.alignments)

    def add(self, *found: Fork | Alignment) -> None:
        self.forks += [each for each in found if isinstance(each, Fork)]
        self.alignments += [each for each in found if isinstance(each, Alignment)]
        self.write()

    def write(self, **more: Any) -> None:
        """All of it, with `more` beside it."""
        self.more |= more
        lists = {"forks": self.forks, "alignments": self.alignments}
        content = {name: [asdict(each) for each in found] for name, found in lists.items()}
        disk.write_json(self.path, {"settings": self.settings, **content, **self.more})
