"""Which runs are held against each other. Only runs of one protocol are: the same images, epochs, optimiser.

A protocol is everything that a row does not say: the configuration without model, schedule and seed, the data set with
its hash, and the trajectory number of the program.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from approxtrain.paper import experiments
from approxtrain.paper.experiments import Experiment
from approxtrain.report.estimates import Estimate, counted, estimate, paired
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

    name: str
    short: str
    """What a line is called."""
    method: str
    group: str
    """The schedule, where the rows of a paper's table have several; else empty."""
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
        """ "seed 1 diverged at step 812", for each run that did not finish: the message without its detail."""
        said = {
            seed: run.message.partition(":")[0] if run.status == "diverged" else f"unfinished, {run.message}"
            for seed, run in self.failed.items()
        }
        return "; ".join(f"seed {seed} {how}" for seed, how in said.items())

    @property
    def record(self) -> dict[str, Any]:
        """What a CSV says of its seeds."""
        return {"seeds": " ".join(map(str, self.finished)), "failed": self.failures}

    def accuracies(self, kind: str) -> dict[int, float]:
        """Seed → validation accuracy in percent, of the runs that finished: the "best" of each, or its "final" one."""
        return {seed: 100 * archive.summary[f"{kind}_accuracy"] for seed, archive in self.finished.items()}

    def numbers(self, full: RowRuns | None) -> dict[str, Estimate | None]:
        """Accuracies in percent, and differences to `full` in points, paired by seed; None where there is no run or
        pair for it, and for `full` itself."""
        found: dict[str, Estimate | None] = {}
        for kind, difference in (("best", "difference"), ("final", "final_difference")):
            own, base = self.accuracies(kind), full.accuracies(kind) if full and full is not self else {}
            found |= {f"{kind}_accuracy": estimate(list(own.values())), difference: paired(own, base)}
        return found

    def add(self, run: Archive) -> bool:
        """Whether the run has a place here: none, where there is one of its seed."""
        if free := run.seed not in self.finished.keys() | self.failed.keys():
            (self.finished if run.status == "finished" else self.failed)[run.seed] = run
        return free


@dataclass(frozen=True)
class Selection:
    """Runs of one network and protocol, in rows."""

    name: str
    """That of its files."""
    title: str
    model: str
    protocol: Protocol
    rows: Sequence[RowRuns]
    full: RowRuns | None
    """Of `rows` the exact one, which the others are held against."""

    @property
    def archives(self) -> list[Archive]:
        return [archive for runs in self.rows for archive in runs.archives]


@dataclass(frozen=True)
class PaperSelection(Selection):
    """The runs of a table or figure, its rows in the order of the experiment's."""

    full: RowRuns
    experiment: Experiment

    @property
    def paper_epochs(self) -> int:
        """What the paper trained this network for; the presets hold it."""
        return self.experiment.baseline.config().train.epochs


def in_order(runs: Iterable[Archive]) -> list[Archive]:
    """Finished runs before others: they get the place of their seed."""
    return sorted(runs, key=lambda run: (run.status != "finished", run.seed))


def by_row(archives: Sequence[Archive]) -> dict[str, list[Archive]]:
    """The archives that are runs of a row of the paper's or of ours, by the row's name."""
    found: dict[str, list[Archive]] = {}
    for archive in archives:
        if row := experiments.row_of(archive.config):
            found.setdefault(row.name, []).append(archive)
    return found


def select(experiment: Experiment, runs: Mapping[str, Sequence[Archive]]) -> PaperSelection | None:
    """The runs for an experiment out of `by_row`; None where no run is of one of its rows.

    Of several protocols: CIFAR-10's images before others, then the one that fills most places, then the longest.
    """
    candidates = [(run, Protocol.of(run)) for row in experiment.rows for run in runs.get(row.name, ())]
    if not candidates:
        return None
    filled = Counter(protocol for run, protocol in candidates if run.status == "finished")
    chosen = max((each[1] for each in candidates), key=lambda p: (p.real, filled[p], p.train["epochs"], p.key))
    rows = [RowRuns(row.name, row.short, row.method, row.group, {}, {}) for row in experiment.rows]
    for row in rows:
        for run in in_order(runs.get(row.name, ())):
            if Protocol.of(run) == chosen:
                row.add(run)
    full = next(row for row in rows if row.name == experiment.baseline.name)
    return PaperSelection(experiment.name, experiment.title, experiment.model, chosen, rows, full, experiment)
