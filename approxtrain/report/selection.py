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

    @property
    def failures(self) -> str:
        """ "seed 1 diverged at step 812", for each run that did not finish."""
        return "; ".join(f"seed {seed} {short_failure(archive)}" for seed, archive in self.failed.items())


@dataclass(frozen=True)
class Selection:
    """The runs of a table or figure: in its rows those of `protocol`, and what has a row but another protocol."""

    experiment: Experiment
    protocol: Protocol
    rows: Sequence[RowRuns]
    left_out: Sequence[Archive]

    @property
    def full(self) -> RowRuns:
        return next(runs for runs in self.rows if runs.row == self.experiment.baseline)

    @property
    def archives(self) -> list[Archive]:
        return [archive for runs in self.rows for archive in runs.archives]

    @property
    def paper_epochs(self) -> int:
        """What the paper trained this network for; the presets hold it."""
        return self.experiment.baseline.config().train.epochs


def by_row(archives: Sequence[Archive]) -> dict[str, list[Archive]]:
    """The archives that are runs of a row of the paper's or of ours, by the row's name."""
    found: dict[str, list[Archive]] = {}
    for archive in archives:
        if row := experiments.row_of(archive.config):
            found.setdefault(row.name, []).append(archive)
    return found


def select(experiment: Experiment, runs: Mapping[str, Sequence[Archive]]) -> Selection | None:
    """The runs for an experiment out of `by_row`; None where no run is of one of its rows.

    Of several protocols: CIFAR-10's images before others, then the one that fills most places, then the longest.
    """
    candidates = [(row.name, run, Protocol.of(run)) for row in experiment.rows for run in runs.get(row.name, ())]
    if not candidates:
        return None
    filled = Counter(protocol for _, run, protocol in candidates if run.status == "finished")
    chosen = max((each[2] for each in candidates), key=lambda p: (p.real, filled[p], p.train["epochs"], p.key))
    rows = {row.name: RowRuns(row, {}, {}) for row in experiment.rows}
    left_out = []
    for name, run, protocol in sorted(candidates, key=lambda each: (each[1].status != "finished", each[1].seed)):
        finished, failed = rows[name].finished, rows[name].failed
        if protocol != chosen or run.seed in finished.keys() | failed.keys():
            left_out.append(run)
        else:
            (finished if run.status == "finished" else failed)[run.seed] = run
    return Selection(experiment, chosen, list(rows.values()), left_out)


def why_left_out(run: Archive, selections: Sequence[Selection]) -> str:
    """Why a run stands in none of the tables and figures."""
    rival = next((selection for selection in selections if run in selection.left_out), None)
    if rival is None:
        return "no row of the paper"
    protocol, table = Protocol.of(run), rival.experiment.short
    if protocol == rival.protocol:
        return "its row has a run of this seed already"
    if protocol.title == rival.protocol.title:
        return f"{table} has runs with other settings, images or program"
    return f"{table} is of {rival.protocol.title}"


def short_failure(archive: Archive) -> str:
    """The message without its detail: "diverged at step 812", "unfinished, 3 of 8 epochs"."""
    return archive.message.partition(":")[0] if archive.status == "diverged" else f"unfinished, {archive.message}"
