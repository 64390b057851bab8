"""Which runs stand in the rows of a table. Only runs of one protocol are averaged: the same images, epochs, optimiser.

A protocol is everything that a row does not say: the configuration without model, schedule and seed, the data set with
its hash, and the trajectory number of the program. Of several, a table takes one, and says what it leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from approxtrain.config import Config, plain
from approxtrain.paper import experiments
from approxtrain.paper.experiments import Experiment, Row
from approxtrain.report.wording import counted
from approxtrain.run.archive import ELSEWHERE, Archive

REAL = "cifar10"
"""The images of CIFAR-10; "cifar10-jpeg75" and the like hold them as well, re-encoded."""
DRAWN = "shapes"


@dataclass(frozen=True)
class Protocol:
    """What the runs of one table have in common. Hashable."""

    data: str
    sha256: str
    validation: str
    trajectory: int
    settings: str
    """The [train], [optimizer] and [data] tables as canonical JSON, without the seed and what changes no step."""

    @classmethod
    def of(cls, archive: Archive) -> Protocol:
        data = archive.data or {"name": archive.config["data"]["name"]}
        filled = _filled(archive.config)
        settings = {
            section: {key: value for key, value in filled[section].items() if key not in _ignored(section)}
            for section in ("train", "optimizer", "data")
        }
        return cls(
            data["name"],
            data.get("sha256", ""),
            data.get("validation", ""),
            archive.trajectory,
            json.dumps(settings, sort_keys=True),
        )

    def setting(self, section: str, key: str) -> Any:
        return json.loads(self.settings)[section].get(key)

    @property
    def epochs(self) -> int:
        return self.setting("train", "epochs")

    @property
    def real(self) -> bool:
        return self.data.partition("-")[0] == REAL

    @property
    def limit(self) -> int | None:
        """Images of a trial, to train and to validate on."""
        return self.setting("data", "limit")

    @property
    def title(self) -> str:
        limit = f" (the first {self.limit} images)" if self.limit else ""
        return f"{self.data}{limit}, {counted(self.epochs, 'epoch')}"


@dataclass(frozen=True)
class RowRuns:
    """The runs of one row, by seed."""

    row: Row
    finished: dict[int, Archive]
    failed: dict[int, Archive]
    """Diverged or unfinished."""

    @property
    def diverged(self) -> dict[int, Archive]:
        return {seed: archive for seed, archive in self.failed.items() if archive.status == "diverged"}


@dataclass(frozen=True)
class Selection:
    """The runs of a table or figure: in its rows those of `protocol`, and what has a row but another protocol."""

    experiment: Experiment
    protocol: Protocol
    rows: tuple[RowRuns, ...]
    left_out: tuple[Archive, ...]

    def of(self, row: Row) -> RowRuns:
        return next(runs for runs in self.rows if runs.row.name == row.name)

    @property
    def full(self) -> RowRuns:
        return self.of(self.experiment.baseline)

    @property
    def archives(self) -> list[Archive]:
        return [archive for runs in self.rows for archive in (*runs.finished.values(), *runs.failed.values())]

    @property
    def seeds(self) -> list[int]:
        return sorted({archive.seed for archive in self.archives})

    @property
    def paper_epochs(self) -> int:
        """What the paper trained this network for; the presets hold it."""
        return self.experiment.baseline.config().train.epochs


def by_row(archives: Sequence[Archive]) -> dict[str, list[Archive]]:
    """The archives that are runs of a row of the paper's or of ours, by the row's name."""
    kinds: dict[str, list[Archive]] = {}  # of one network under one schedule: what they are is found out once
    for archive in archives:
        kinds.setdefault(json.dumps([archive.config["model"], archive.config["schedule"]], sort_keys=True), []).append(
            archive
        )
    found: dict[str, list[Archive]] = {}
    for same in kinds.values():
        for row in experiments.rows():
            if experiments.matches(row, same[0].config):
                found.setdefault(row.name, []).extend(same)
    return found


def select(experiment: Experiment, runs: Mapping[str, Sequence[Archive]]) -> Selection | None:
    """The runs for an experiment out of `by_row`; None where no run is of one of its rows.

    Of several protocols: CIFAR-10's images before others, then the one that fills most places, then the longest.
    """
    of_row = [(row, runs.get(row.name, ())) for row in experiment.rows]
    protocols: dict[Protocol, int] = {}
    for _, found in of_row:
        for archive in found:
            protocol = Protocol.of(archive)
            protocols[protocol] = protocols.get(protocol, 0) + (archive.status == "finished")
    if not protocols:
        return None
    chosen = max(protocols, key=lambda p: (p.real, protocols[p], p.epochs, p.data, p.sha256, p.settings, p.trajectory))
    rows = tuple(_row_runs(row, [one for one in found if Protocol.of(one) == chosen]) for row, found in of_row)
    inside = {id(archive) for runs in rows for archive in (*runs.finished.values(), *runs.failed.values())}
    others = {id(one): one for _, found in of_row for one in found if id(one) not in inside}
    return Selection(experiment, chosen, rows, tuple(others.values()))


def _row_runs(row: Row, found: Iterable[Archive]) -> RowRuns:
    finished: dict[int, Archive] = {}
    failed: dict[int, Archive] = {}
    for archive in found:
        (finished if archive.status == "finished" else failed).setdefault(archive.seed, archive)
    return RowRuns(row, finished, {seed: archive for seed, archive in failed.items() if seed not in finished})


def _filled(config: dict[str, Any]) -> dict[str, Any]:
    """With the keys that the version which ran it did not know, at their defaults."""
    try:
        return plain(Config.model_validate(config))
    except ValidationError:  # it had keys that this version does not know
        return config


def _ignored(section: str) -> tuple[str, ...]:
    return (*ELSEWHERE.get(section, ()), *(("seed",) if section == "train" else ()))
