"""Which runs are held against each other. Only runs of one protocol are: the same images, epochs, optimiser.

A protocol is everything that a row does not say: the configuration without model, schedule and seed, the data set with
its hash, and the trajectory number of the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from approxtrain.report.estimates import Estimate, counted, estimate, paired
from approxtrain.run.archive import ELSEWHERE, STATUSES, Archive


@dataclass(frozen=True)
class Protocol:
    """What the runs of one table have in common. Hashable."""

    key: str
    """`values` as canonical JSON."""
    values: dict[str, Any] = field(compare=False)
    """The data set, the trajectory number, and the [train], [optimizer] and [data] tables without the seed and what
    changes no step."""

    @classmethod
    def of(cls, archive: Archive) -> Protocol:
        images = archive.data or {"name": archive.config["data"]["name"]}
        said: dict[str, Any] = {"images": images, "trajectory": archive.trajectory}
        for section in ("train", "optimizer", "data"):
            ignored = (*ELSEWHERE.get(section, ()), "seed")
            said[section] = {key: value for key, value in archive.config[section].items() if key not in ignored}
        return cls(json.dumps(said, sort_keys=True), said)

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
class LeftOut:
    """A run that another one of the same settings and seed stands for."""

    seed: int
    name: str
    taken: str
    """The name of the one that counts."""


@dataclass(frozen=True)
class RowRuns:
    """The runs of one row, by seed."""

    name: str
    short: str
    """What a line is called."""
    method: str
    group: str
    """The schedule, where the rows of a paper's table have several; else empty."""
    runs: dict[int, Archive]
    left_out: Sequence[LeftOut] = ()

    @property
    def finished(self) -> dict[int, Archive]:
        return {seed: run for seed, run in self.runs.items() if run.status == "finished"}

    @property
    def failed(self) -> dict[int, Archive]:
        """Diverged or unfinished."""
        return {seed: run for seed, run in self.runs.items() if run.status != "finished"}

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


@dataclass(frozen=True)
class Selection:
    """Runs of one network and protocol, in rows."""

    name: str
    """That of its files."""
    title: str
    model: str
    protocol: Protocol
    rows: Sequence[RowRuns]

    @property
    def full(self) -> RowRuns:
        """The first exact row, which the others are held against; it may have no runs."""
        return next(row for row in self.rows if row.method == "full")

    @property
    def archives(self) -> list[Archive]:
        return [run for row in self.rows for run in (*row.finished.values(), *row.failed.values())]


def by_seed(runs: Iterable[Archive]) -> tuple[dict[int, Archive], list[LeftOut]]:
    """The runs of a row, of several with one seed the one to take; and the others."""
    found: dict[int, list[Archive]] = {}
    for run in runs:
        found.setdefault(run.seed, []).append(run)
    taken = {seed: choose([(run, run.name) for run in found[seed]]) for seed in sorted(found)}
    return {seed: run for seed, (run, _) in taken.items()}, [each for _, others in taken.values() for each in others]


def choose(runs: Sequence[tuple[Archive, str]]) -> tuple[Archive, list[LeftOut]]:
    """Of runs of the same settings and seed, with the places where they are, the one to take, and the others but for
    copies of it.

    The finished one before the diverged one before the unfinished one, then one that was probed, then the last by name:
    the names that `train` gives end with their time, so that it is the newest.
    """
    taken, place = max(runs, key=lambda pair: _worth(pair[0]))
    left_out = {}
    for run, elsewhere in runs:
        copied = run.epochs == taken.epochs[: len(run.epochs)] and (run.epochs or run.name == taken.name)
        if not copied:
            names = (elsewhere, place) if run.name == taken.name else (run.name, taken.name)
            left_out[elsewhere] = LeftOut(run.seed, *names)
    return taken, [left_out[elsewhere] for elsewhere in sorted(left_out)]


def _worth(run: Archive) -> tuple[Any, ...]:
    """Sort key: the archive to take comes last; after the name, so that no order of files decides, the content."""
    return -STATUSES.index(run.status), bool(run.probes), run.name, json.dumps(run.epochs, sort_keys=True)
