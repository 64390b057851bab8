"""What `report` is given: runs, and measured steps and kernels, sorted by what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from approxtrain.errors import ConfigError
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG


@dataclass(frozen=True)
class Measured:
    """The JSON of `bench-step` or `bench-kernel`."""

    name: str
    """Of its file."""
    values: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    archives: tuple[Archive, ...]
    """In the order of model, schedule and seed, whatever order they were given in."""
    steps: tuple[Measured, ...]
    kernels: tuple[Measured, ...]


def read(paths: Sequence[Path]) -> Inputs:
    """Sort the files and folders at `paths`.

    A file is an archive or a JSON of `bench-step` or `bench-kernel`; a folder is that of a run, or holds such files and
    folders. ConfigError where there is nothing, or something that is none of these.
    """
    if not paths:
        raise ConfigError("there is nothing to report: name run folders, archives, or a folder that holds them.")
    bench: dict[str, list[Measured]] = {"bench-step": [], "bench-kernel": []}
    runs: list[Path] = []
    read_before: set[Path] = set()
    for path in dict.fromkeys(paths):
        found = list(_jsons(path, archive.DEPTH))
        measured = [(file, values) for file, values in found if values.get("command") in bench]
        for file, values in measured:
            if file.resolve() not in read_before:
                read_before.add(file.resolve())
                bench[values["command"]].append(Measured(file.name, values))
        holds_run = any(values.get("kind") == archive.KIND for _, values in found) or _holds_folder(path)
        if holds_run or not measured:  # of what holds neither, `load_all` says what is wrong
            runs.append(path)
    archives = archive.load_all(runs) if runs else []
    return Inputs(tuple(sorted(archives, key=_place)), tuple(bench["bench-step"]), tuple(bench["bench-kernel"]))


def _jsons(path: Path, depth: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The JSON of ours at `path`, or below it outside of run folders: archives and benchmarks."""
    if path.is_dir() and not (path / CONFIG).is_file():
        for entry in sorted(path.iterdir()):
            if (entry.suffix == ".json" and entry.is_file()) or (depth and entry.is_dir()):
                yield from _jsons(entry, depth - 1)
    elif path.is_file() and path.suffix == ".json":
        try:
            values = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"`{path}` cannot be read as JSON: {error}. Bring it back, or take it away.") from None
        if isinstance(values, dict) and (values.get("kind") == archive.KIND or "command" in values):
            yield path, values


def _holds_folder(path: Path) -> bool:
    patterns = ["/".join(["*"] * level + [CONFIG]) for level in range(archive.DEPTH + 1)]
    return path.is_dir() and any(any(path.glob(pattern)) for pattern in patterns)


def _place(found: Archive) -> tuple[Any, ...]:
    schedule = json.dumps(found.config["schedule"], sort_keys=True)
    return found.config["model"]["name"], schedule, found.seed, found.identity, found.name
