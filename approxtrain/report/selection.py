"""Which runs stand in the rows of a table. Only runs of one protocol are averaged: the same images, epochs, optimiser.

A protocol is everything that a row does not say: the configuration without model, schedule and seed, the data set with
its hash, and the trajectory number of the program. Of several, a table takes one, and says what it leaves out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from approxtrain.paper import experiments
from approxtrain.paper.experiments import Experiment, PaperRow
from approxtrain.report.estimates import counted
from approxtrain.run.archive import ELSEWHERE, Archive


@dataclass(frozen=True)
class Protocol:
    """What the runs of one table have in common. Hashable."""

    key: str
    """The data set, the trajectory number, and the [train], [optimizer] and [data] tables without the seed and what
    changes no step, as canonical JSON."""

    @classmethod
    def of(cls, archive: Archive) -> Protocol:
        images = archive.data or {"name": archive.config["data"]["name"]}
        said: dict[str, Any] = {"images": images, "trajectory": archive.trajectory}
        for section in ("train", "optimizer", "data"):
            ignored = (*ELSEWHERE.get(section, ()), "seed")
            said[section] = {key: value for key, value in archive.config[section].items() if key not in ignored}
        return cls(json.dumps(said, sort_keys=True))

    @cached_property
    def values(self) -> dict[str, Any]:
        return json.loads(self.key)

    @property
    def data(self) -> str:
        return self.values["images"]["name"]

    @property
    def train(self) -> dict[str, Any]:
        return self.values["train"]

    @property
    def real(self) -> bool:
        """Whether the images are CIFAR-10's; "cifar10-jpeg75" and the like hold them as well, re-encoded."""
        return self.data.partition("-")[0] == "cifar10"

    @property
    def limit(self) -> int | None:
        """Images of a trial, to train and to validate on."""
        return self.values["data"].get("limit")

    @property
    def title(self) -> str:
        limit = f" (the first {self.limit} images)" if self.limit else ""
        return f"{self.data}{limit}, {counted(self.train['epochs'], 'epoch')}"


@dataclass(frozen=True)
class RowRuns:
    """The runs of one row, by seed."""

    row: PaperRow
    finished: dict[int, Archive]
    failed: dict[int, Archive]
    """Diverged or unfinished."""

    @property
    def diverged(self) -> int:
        return sum(archive.status == "diverged" for archive in self.failed.values())

    @property
    def archives(self) -> list[Archive]:
        return [*self.finished.values(), *self.failed.values()]


@dataclass(frozen=True)
class Selection:
    """The runs of a table or figure: in its rows those of `protocol`, and what has a row but another protocol."""

    experiment: Experiment
    protocol: Protocol
    rows: tuple[RowRuns, ...]
    left_out: Sequence[Archive]

    @property
    def full(self) -> RowRuns:
        return next(runs for runs in self.rows if runs.row == self.experiment.baseline)

    @property
    def archives(self) -> list[Archive]:
        return [archive for runs in self.rows for archive in runs.archives]

    @property
    def seeds(self) -> list[int]:
        return sorted({archive.seed for archive in self.archives})

    @property
    def paper_epochs(self) -> int:
        """What the paper trained this network for; the presets hold it."""
        return self.experiment.baseline.config().train.epochs


def by_row(archives: Sequence[Archive]) -> dict[str, list[Archive]]:
    """The archives that are runs of a row of the paper's or of ours, by the row's name."""
    alike: dict[str, list[Archive]] = {}  # of one network under one schedule: what they are is found out once
    for archive in archives:
        key = json.dumps([archive.config["model"], archive.config["schedule"]], sort_keys=True)
        alike.setdefault(key, []).append(archive)
    matching: dict[str, list[Archive]] = {}
    for runs in alike.values():
        for row in experiments.rows():
            if experiments.matches(row, runs[0].config):
                matching.setdefault(row.name, []).extend(runs)
    return matching


def select(experiment: Experiment, runs: Mapping[str, Sequence[Archive]]) -> Selection | None:
    """The runs for an experiment out of `by_row`; None where no run is of one of its rows.

    Of several protocols: CIFAR-10's images before others, then the one that fills most places, then the longest.
    """
    candidates = [(row, archive, Protocol.of(archive)) for row in experiment.rows for archive in runs.get(row.name, ())]
    if not candidates:
        return None
    filled = Counter(protocol for _, archive, protocol in candidates if archive.status == "finished")
    chosen = max((each[2] for each in candidates), key=lambda p: (p.real, filled[p], p.train["epochs"], p.key))
    rows = {row.name: RowRuns(row, {}, {}) for row in experiment.rows}
    left_out = []
    for row, archive, protocol in sorted(candidates, key=lambda each: (each[1].status != "finished", each[1].seed)):
        inside = rows[row.name]
        if protocol != chosen or archive.seed in inside.finished or archive.seed in inside.failed:
            left_out.append(archive)
        else:
            (inside.finished if archive.status == "finished" else inside.failed)[archive.seed] = archive
    return Selection(experiment, chosen, tuple(rows.values()), left_out)
