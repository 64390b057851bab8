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
from itertools import count
from pathlib import Path

from approxtrain import config, disk
from approxtrain.config import Config
from approxtrain.paper.runs import Planned
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG, LOCK, RunFolder

RUNS = "runs"
_CLAIMS = ".claims.lock"


@dataclass(frozen=True)
class Found:
    """What there is of a run."""

    archive: Archive
    folder: Path | None
    """Of a run that has no archive yet."""

    @property
    def ended(self) -> bool:
        return self.archive.status != "unfinished"


class Store:
    """The folder `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def runs(self) -> Path:
        return self.root / RUNS

    def contents(self) -> list[Found]:
        """All that is there, each run once: finished ones, then diverged ones, then others.

        A run that has both an archive and a folder is there as its archive. ConfigError where a file is damaged.
        """
        if not self.root.is_dir():
            return []
        archives = (Found(each, None) for each in archive.archives_in(self.root))
        found = [each for each in archives if each.ended]
        for path in sorted(self.runs.glob("*")):
            if (path / CONFIG).is_file():
                seeds = [Found(each, path) for each in archive.of_folder(path)]
                found += [each for each in seeds if each.ended or len(seeds) == 1]
        found.sort(key=lambda each: archive.STATUSES.index(each.archive.status))
        known: dict[str, Found] = {}
        return [
            each for each in found if not each.archive.identity or known.setdefault(each.archive.identity, each) is each
        ]

    def find(self, planned: Sequence[Planned]) -> list[Found | None]:
        """What there is of each of these runs. ConfigError where a file is damaged."""
        known: dict[str, Found] = {}
        contents = self.contents()
        for data in {tuple(each.data.items()): each.data for each in planned}.values():
            for found in contents:
                known.setdefault(_identity(found, data), found)
        return [known.get(each.identity) for each in planned]

    def claim(self, planned: Planned) -> Found | tuple[RunFolder, Config]:
        """What there is of a run that has ended; of another one the locked folder, begun or new, and the configuration
        to go on with.

        Two processes cannot claim the same run: the later one gets LockedError. DiskError, ConfigError.
        """
        with self._claiming():
            (found,) = self.find([planned])
            if found and found.ended:
                return found
            if found and found.folder:
                before = config.load(str((found.folder / CONFIG).absolute()))
                here = before.data.model_copy(update={"dir": planned.config.data.dir})  # images may have moved
                return RunFolder.open(found.folder), before.model_copy(update={"data": here})
            folder = RunFolder.create(_free(self.runs / planned.name))
            disk.write(folder.config, config.dump(planned.config))  # from now on `find` knows whose it is
            return folder, planned.config

    def keep(self, planned: Planned, folder: Path) -> Archive:
        """Write the archive of a run that has ended in `folder`, unless there is one by now. → the archive."""
        own = next(each for each in archive.of_folder(folder) if each.identity == planned.identity)
        own = replace(own, name=planned.name)
        with self._claiming():
            (found,) = self.find([planned])
            if found and found.folder is None:
                return found.archive
            archive.write(_free(self.root / f"{planned.name}.json"), own)
        return own

    @contextlib.contextmanager
    def _claiming(self) -> Iterator[None]:
        """One process at a time looks for a folder and takes it. The kernel frees the lock when a process ends."""
        with disk.explained(self.runs):
            self.runs.mkdir(parents=True, exist_ok=True)
            lock = (self.runs / _CLAIMS).open("a")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _identity(found: Found, data: dict[str, str]) -> str:
    """The identity of what was found; of a folder that has not begun, the one that it will have on `data`."""
    if found.archive.identity or found.folder is None:
        return found.archive.identity
    return archive.identity(config.load(str((found.folder / CONFIG).absolute())), data)


def _free(path: Path) -> Path:
    """`path`, or the same with -2, -3 … to its name: the first that is not taken."""
    stem, suffix = (path.name.removesuffix(".json"), ".json") if path.name.endswith(".json") else (path.name, "")
    others = (path.with_name(f"{stem}-{number}{suffix}") for number in count(2))
    return path if _untaken(path) else next(filter(_untaken, others))


def _untaken(path: Path) -> bool:
    """Whether nothing is there, or a folder that a killed process made and did not begin to fill."""
    return not path.exists() or (path.is_dir() and all(entry.name == LOCK for entry in path.iterdir()))
