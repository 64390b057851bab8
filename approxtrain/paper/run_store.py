"""The folder of a reproduction: archives, which are all that has to be kept, and beside them the folders of runs.

    DIR/NAME.json        the archive of a run that has ended; any JSON in DIR or in a folder below it counts
    DIR/runs/NAME/       the run itself: checkpoints, rows, curves
    DIR/runs/.steps.json measured steps, to estimate from

A run is recognised by its identity, whatever its files are called. Nothing is ever written over: where a name is taken
by another run, the next one free is used. Imports no jax.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from approxtrain import config, disk
from approxtrain.config import Config
from approxtrain.paper.planning import PlannedRun
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG, LOCK, RunFolder

_CLAIMS = ".claims.lock"


@dataclass(frozen=True)
class StoredRun:
    """What there is of a run."""

    archive: Archive
    folder: Path | None
    """Where it ran, if it has no archive yet."""

    @property
    def ended(self) -> bool:
        return self.archive.status != "unfinished"

    def identity(self, data: dict[str, str]) -> str:
        """The archive's, or, of a folder that has not begun, the one that the run will have on `data`."""
        if self.archive.identity or self.folder is None:
            return self.archive.identity
        return archive.identity(_config(self.folder), data)


class RunStore:
    """The folder `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs = root, root / "runs"

    def contents(self) -> list[StoredRun]:
        """All that is there, each run once: finished ones, then diverged ones, then others.

        A run that has both an archive and a folder is there as its archive. ConfigError where a file is damaged.
        """
        if not self.root.is_dir():
            return []
        stored = [StoredRun(each, None) for each in archive.archives_in(self.root) if each.status != "unfinished"]
        for path in sorted(self.runs.glob("*")):
            if (path / CONFIG).is_file():
                seeds = [StoredRun(each, path) for each in archive.of_folder(path)]
                stored += [seed for seed in seeds if seed.ended or len(seeds) == 1]
        stored.sort(key=lambda run: archive.STATUSES.index(run.archive.status))
        first: dict[object, StoredRun] = {}
        for run in stored:
            first.setdefault(run.archive.identity or run.folder, run)
        return list(first.values())

    def find(self, planned: Sequence[PlannedRun]) -> list[StoredRun | None]:
        """What there is of each of these runs. ConfigError where a file is damaged."""
        known: dict[str, StoredRun] = {}
        contents = self.contents()
        for data in {tuple(run.data.items()): run.data for run in planned}.values():
            for stored in contents:
                known.setdefault(stored.identity(data), stored)
        return [known.get(run.identity) for run in planned]

    def claim(self, planned: PlannedRun) -> StoredRun | tuple[RunFolder, Config]:
        """What there is of a run that has ended; of another one the locked folder, begun or new, and the configuration
        to go on with.

        Two processes cannot claim the same run: the later one gets LockedError. DiskError, ConfigError.
        """
        with self._claiming():
            (stored,) = self.find([planned])
            if stored and stored.ended:
                return stored
            if stored and stored.folder:
                before = _config(stored.folder)
                here = before.data.model_copy(update={"dir": planned.config.data.dir})  # images may have moved
                return RunFolder.open(stored.folder), before.model_copy(update={"data": here})
            folder = RunFolder.create(_free(self.runs, planned.name))
            disk.write(folder.config, config.dump(planned.config))  # from now on `find` knows whose it is
            return folder, planned.config

    def keep(self, planned: PlannedRun, folder: Path) -> Archive:
        """Write the archive of a run that has ended in `folder`, unless there is one by now. → the archive."""
        ended = next(each for each in archive.of_folder(folder) if each.identity == planned.identity)
        ended = replace(ended, name=planned.name)
        with self._claiming():
            (stored,) = self.find([planned])
            if stored and stored.folder is None:
                return stored.archive
            archive.write(_free(self.root, planned.name, ".json"), ended)
        return ended

    @contextlib.contextmanager
    def _claiming(self) -> Iterator[None]:
        """One process at a time looks for a folder and takes it. The kernel frees the lock when a process ends."""
        with disk.explained(self.runs):
            self.runs.mkdir(parents=True, exist_ok=True)
            lock = (self.runs / _CLAIMS).open("a")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _config(folder: Path) -> Config:
    return config.load(str((folder / CONFIG).absolute()))


def _free(folder: Path, name: str, ending: str = "") -> Path:
    """The first of NAME, NAME-2 … where nothing is, or a folder that a killed process did not begin to fill."""
    paths = (folder / f"{name}{number}{ending}" for number in chain([""], (f"-{number}" for number in count(2))))
    return next(
        path
        for path in paths
        if not path.exists() or (path.is_dir() and all(entry.name == LOCK for entry in path.iterdir()))
    )
