"""What `report` is given: runs, and measured steps and kernels, sorted by what they are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from approxtrain.errors import ConfigError
from approxtrain.report.selection import LeftOut, choose
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG

DEPTH = 2
"""Levels below a folder that runs are looked for in: DIR/NAME.json and DIR/runs/NAME."""
COMMANDS = ("bench-step", "bench-kernel")


class BenchFile(NamedTuple):
    """The JSON of `bench-step` or `bench-kernel`, by the name of its file."""

    name: str
    content: dict[str, Any]

    @property
    def environment(self) -> dict[str, Any]:
        return self.content["environment"]


class Inputs(NamedTuple):
    archives: list[Archive]
    """In the order of model, schedule and seed, whatever order they were given in."""
    steps: list[BenchFile]
    kernels: list[BenchFile]
    left_out: Sequence[LeftOut] = ()
    """Runs that one of `archives` stands for."""


def read(paths: Sequence[Path]) -> Inputs:
    """Sort the files and folders at `paths`: archives, JSONs of COMMANDS, run folders, and folders that hold such, up
    to DEPTH levels down, where other files are passed over.

    A run that is there twice, as archive and as folder, repeated, or from two machines, counts once, by
    `selection.choose`. ConfigError where a path leads to nothing, or a file is damaged.
    """
    if not paths:
        raise ConfigError("there is nothing to report: name run folders, archives, or a folder that holds them.")
    runs: dict[Any, list[tuple[Archive, str]]] = {}
    benches: dict[str, dict[Path, BenchFile]] = {command: {} for command in COMMANDS}
    for path in dict.fromkeys(paths):
        here = list(_found(path, DEPTH))
        if not here:
            raise ConfigError(f"`{path}` holds no run folder and no archive of a run.")
        for file, one in here:
            if isinstance(one, Archive):
                key = one.identity or (file, one.seed)
                runs.setdefault(key, []).append((one, "/".join(file.parts[-2:])))
            else:
                benches[one.content["command"]][file.resolve()] = one
    taken, others = zip(*map(choose, runs.values()), strict=True) if runs else ((), ())
    left_out = sorted(itertools.chain(*others), key=lambda each: (each.taken, each.seed, each.name))
    steps, kernels = (list(files.values()) for files in benches.values())
    return Inputs(sorted(taken, key=_order), steps, kernels, left_out)


def _found(path: Path, depth: int) -> Iterator[tuple[Path, Archive | BenchFile]]:
    """What there is at `path` or below it, archives before folders."""
    if (path / CONFIG).is_file():
        yield from ((path, run) for run in archive.of_folder(path))
    elif path.is_dir():
        for entry in sorted(path.iterdir(), key=lambda entry: (entry.is_dir(), entry)):
            if not entry.name.startswith(".") and (depth if entry.is_dir() else entry.suffix == ".json"):
                yield from _found(entry, depth - 1)
    else:
        content = archive.read_json(path)
        if isinstance(content, dict) and content.get("kind") == archive.KIND:
            yield path, archive.read(path)
        elif isinstance(content, dict) and content.get("command") in COMMANDS:
            yield path, BenchFile(path.name, content)


def _order(run: Archive) -> tuple[Any, ...]:
    schedule = json.dumps(run.config["schedule"], sort_keys=True)
    return run.config["model"]["name"], schedule, run.seed, run.identity, run.name
