"""What `report` is given: runs, and measured steps and kernels, sorted by what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from approxtrain.errors import ConfigError
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain.run.folder import CONFIG


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


def read(paths: Sequence[Path]) -> Inputs:
    """Sort the files and folders at `paths`.

    A file is an archive or a JSON of `bench-step` or `bench-kernel`; a folder is that of a run, or holds such files and
    folders. ConfigError where there is nothing, or something that is none of these.
    """
    if not paths:
        raise ConfigError("there is nothing to report: name run folders, archives, or a folder that holds them.")
    benches: dict[str, dict[Path, BenchFile]] = {"bench-step": {}, "bench-kernel": {}}
    runs: list[Path] = []
    for path in dict.fromkeys(paths):
        files = {file: _json(file) if file.is_file() else {} for file in _files(path, archive.DEPTH)}
        measured = [file for file, content in files.items() if content.get("command") in benches]
        for file in measured:
            benches[files[file]["command"]][file.resolve()] = BenchFile(file.name, files[file])
        of_path = [file for file, content in files.items() if file.is_dir() or content.get("kind") == archive.KIND]
        runs += of_path or ([] if measured else [path])  # of what holds neither, `load_all` says what is wrong
    archives = archive.load_all(runs) if runs else []
    return Inputs(sorted(archives, key=_order), *(list(files.values()) for files in benches.values()))


def _files(path: Path, depth: int) -> Iterator[Path]:
    """The JSON files and run folders at `path` or below it, archives before folders; `path` itself if it is neither."""
    if not path.is_dir() or (path / CONFIG).is_file():
        yield path
        return
    for entry in sorted(path.iterdir(), key=lambda entry: (entry.is_dir(), entry)):
        if (depth and entry.is_dir()) or entry.suffix == ".json":
            yield from _files(entry, depth - 1)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be read as JSON: {error}. Bring it back, or take it away.") from None
    return content if isinstance(content, dict) else {}


def _order(run: Archive) -> tuple[Any, ...]:
    schedule = json.dumps(run.config["schedule"], sort_keys=True)
    return run.config["model"]["name"], schedule, run.seed, run.identity, run.name
