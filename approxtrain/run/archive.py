"""One JSON that is all that is left of a run, and all that a report needs of it.

    write(DIR / "NAME.json", *of_folder(DIR / "runs/NAME"))
    read(DIR / "NAME.json")

A folder of several seeds becomes an archive for each seed, whose configuration is that of a run of this seed alone; its
clock is that of all of them at once, which `summary` says by `seeds`. Imports no jax.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from approxtrain import config as configuration
from approxtrain import disk
from approxtrain.config import Config
from approxtrain.errors import CheckpointError, ConfigError
from approxtrain.run import divergence, facts, record
from approxtrain.run.folder import CHECKPOINTS, CONFIG

KIND, SCHEMA = "approxtrain run", 1

TRAJECTORY = 1
"""The number of the trajectories that this program computes.

Two runs of one configuration on the same images take the same steps, up to rounding, if this number is the same. It is
part of a run's identity, by which `reproduce` knows what it need not run again; the commit is recorded, but most
commits change no trajectory.

Raise it by hand when the losses of tests/approxtrain/training/test_golden.py change by more than their tolerance, and
when the default of a key of the configuration changes.
"""

UNKNOWN = 0
"""The trajectory number of a run that programs of different numbers went on with: equal to no program's."""

ELSEWHERE = {
    "data": ("dir", "workers"),
    "train": ("check", "chunk", "checkpoint_every", "probe_every", "seeds", "seeds_by", "trackers", "verify_every"),
    "schedule": ("dispatch", "max_columns"),
}
"""Keys of a configuration that change no step of one seed, up to rounding: they are no part of its identity."""

Status = Literal["finished", "diverged", "unfinished"]
STATUSES = ("finished", "diverged", "unfinished")
"""The better one first."""

_NUMBERS = {
    "train": ("step", "epoch", "loss", "accuracy", "learning_rate"),
    "validation": ("step", "epoch", "loss", "accuracy"),
    "probe": ("step", "epoch", "layer"),
    record.TIMING: ("step", "epoch", "seconds", "steps", "images_per_second"),
}
"""What a row has to say in numbers, by its kind; of timing.jsonl all rows are of one."""
_OF_SUMMARY = {
    "data": dict,
    "trajectory": int,
    "environment": dict,
    "final_accuracy": int | float,
    "best_accuracy": int | float,
    "by_seed": list,
}
"""What a summary has to say, and as what."""
_OF_ARCHIVE = {
    **dict.fromkeys(("name", "status", "message", "identity"), str),
    **dict.fromkeys(("config", "data", "summary", "environment"), dict),
    **dict.fromkeys(("epochs", "probes"), list),
    "trajectory": int,
}
"""What an archive has to say, and as what."""


@dataclass(frozen=True)
class Archive:
    """A run of one seed."""

    name: str
    status: Status
    message: str
    """Why or where it did not finish: "diverged at step 812: the loss is nan", "3 of 8 epochs"."""
    identity: str
    """`identity` of configuration, data set and trajectory; empty where the data set is not known."""
    trajectory: int
    """The number of the program that ran it; 0 where it is unknown."""
    config: dict[str, Any]
    """Plain, as in its config.toml, without `data.dir`."""
    data: dict[str, Any]
    """`name`, `sha256` and `validation` ("test", "holdout" or "validation"); empty where the run had not begun."""
    epochs: list[dict[str, Any]]
    """In order, each with `epoch`, `step`, `train_loss`, `train_accuracy`, `learning_rate`; `validation_loss` and
    `validation_accuracy` where it was validated; and, of the process that ended it, `seconds` without compiling,
    validating and saving, the `steps` they are of, and `images_per_second`. Accuracies are shares of 1."""
    summary: dict[str, Any]
    """summary.json, with the outcome of this seed; empty where it did not finish."""
    environment: dict[str, Any]
    """Device, versions, commit, of the process that went on with it last; empty where it is unknown."""
    probes: list[dict[str, Any]]
    """Rows of metrics.jsonl of kind "probe"."""

    @property
    def seed(self) -> int:
        return self.config["train"]["seed"]


def identity(config: Config, data: dict[str, Any], trajectory: int | None = None) -> str:
    """SHA-256 over what a run computes: configuration, name and SHA-256 of the data set, trajectory number
    (this program's, where none is given).

    Keys that change no step (ELSEWHERE) are left out, and so are keys at their defaults: a key that a later version
    adds changes no identity. Of several seeds it is that of the first.
    """
    plainest = config.model_copy(update={name: _reset(getattr(config, name), keys) for name, keys in ELSEWHERE.items()})
    table = plainest.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    what = [table, data["name"], data["sha256"], TRAJECTORY if trajectory is None else trajectory]
    return hashlib.sha256(json.dumps(what, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def of_folder(path: Path) -> list[Archive]:
    """What the run folder at `path` holds by now, an archive for each seed. ConfigError where it is no run folder, or
    its summary is damaged; CheckpointError where rows are."""
    if not (path / CONFIG).is_file():
        raise ConfigError(f"`{path}` holds no {CONFIG}, so it is not the folder of a run.")
    config = configuration.load(str((path / CONFIG).absolute()))
    rows, timing = _rows(path / record.METRICS), _rows(path / record.TIMING, record.TIMING)
    summary = _summary(path, config, rows)
    nothing = {"data": {}, "trajectory": UNKNOWN, "environment": {}}
    saved = None if summary else facts.latest(path / CHECKPOINTS)
    known = summary or (saved and saved._asdict()) or nothing
    done = max((row["epoch"] for row in rows if row["kind"] == "train"), default=0)
    status, message = _status(summary, divergence.noted(path), done, config.train.epochs)
    archives = []
    for seed in config.train.all_seeds:
        single = configuration.with_train(config, seed=seed, seeds=1, seeds_by=None)
        # where the images lay says nothing about the run, and something about its machine
        single = single.model_copy(update={"data": single.data.model_copy(update={"dir": None})})
        rows_of_seed = [row for row in rows if row.get("seed", seed) == seed]
        archives.append(
            Archive(
                name=path.name + (f"-seed{seed}" if config.train.seeds > 1 else ""),
                status=status,
                message=message,
                identity=identity(single, known["data"], known["trajectory"]) if known["data"] else "",
                trajectory=known["trajectory"],
                config=configuration.plain(single),
                data=known["data"],
                epochs=_epochs(rows_of_seed, timing),
                summary=_of_seed(summary, seed),
                environment=known["environment"],
                probes=[row for row in rows_of_seed if row["kind"] == "probe"],
            )
        )
    return archives


def write(path: Path, archive: Archive) -> None:
    """Write `archive` as JSON, in one step. DiskError."""
    disk.write_json(path, record.plain({"kind": KIND, "schema": SCHEMA, **asdict(archive)}))


def read(path: Path) -> Archive:
    """The archive at `path`. ConfigError where it is none."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ConfigError(
            f"`{path}` is no archive of a run: give a run folder, a JSON that `approxtrain reproduce` wrote, or a "
            "folder of such."
        )
    if (schema := content.get("schema")) != SCHEMA:
        raise ConfigError(
            f"`{path}` has the schema {schema}, and this version reads {SCHEMA}: use the one that wrote it."
        )
    missing = _missing(content, _OF_ARCHIVE)
    if not missing:
        missing = [name for name in ("epochs", "probes") if not all(isinstance(row, dict) for row in content[name])]
    if missing:
        raise ConfigError(f"`{path}` is damaged: it lacks {', '.join(missing)}. Bring it back, or take it away.")
    values: dict[str, Any] = {name: content[name] for name in _OF_ARCHIVE}
    values |= {name: _numbers(content[name]) for name in ("epochs", "probes")}
    return Archive(**values)


def read_json(path: Path) -> Any:
    """What is in the file at `path`. ConfigError where it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # a device has no end
            raise ValueError("it is no file")
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"`{path}` does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"`{path}` cannot be read as JSON: {error}. Bring it back, or take it away.") from None


def _missing(table: Any, wanted: dict[str, Any]) -> list[str]:
    """The names in `wanted` that the table does not have, or as something else."""
    return [
        name for name, kind in wanted.items() if not (isinstance(table, dict) and isinstance(table.get(name), kind))
    ]


def _missing_within(summary: dict[str, Any]) -> list[str]:
    """The same of the parts of a summary."""
    missing = [f"data.{name}" for name in _missing(summary["data"], {"name": str, "sha256": str})]
    return missing + ["by_seed"] * any(_missing(each, {"seed": int}) for each in summary["by_seed"])


def _reset(section: BaseModel, keys: tuple[str, ...]) -> BaseModel:
    """The section with `keys` at their defaults."""
    known = type(section).model_fields
    return section.model_copy(update={key: known[key].default for key in keys if key in known})


def _numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with NaN and infinity, which JSON holds as strings, as numbers again."""
    names = {"NaN", "Infinity", "-Infinity"}
    return [
        {key: float(value) if isinstance(value, str) and value in names else value for key, value in row.items()}
        for row in rows
    ]


def _rows(path: Path, of: str | None = None) -> list[dict[str, Any]]:
    """The rows in the file at `path`, which say what rows of the kind `of` do; None: of the kind that each names."""
    rows = _numbers(record.rows(path))
    for line, row in enumerate(rows, start=1):
        kind = of or row.get("kind")
        words = [] if of else ["kind", *["method"] * (kind == "probe")]
        wrong = [name for name in words if not isinstance(row.get(name), str)]
        wrong += [name for name in _NUMBERS.get(str(kind), ("step",)) if not isinstance(row.get(name), int | float)]
        if wrong:
            raise CheckpointError(
                f"`{path}` is damaged: line {line} says nothing of {', '.join(wrong)}, or something else. Bring the "
                "file back from a backup."
            )
    return rows


def _summary(path: Path, config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """summary.json, where it is that of the run as it stands: not that of a shorter one which went on."""
    file = path / record.SUMMARY
    summary = read_json(file) if file.is_file() else {}
    steps = max((row["step"] for row in rows), default=0)
    if isinstance(summary, dict) and (summary.get("epochs"), summary.get("steps")) != (config.train.epochs, steps):
        return {}
    if missing := _missing(summary, _OF_SUMMARY) or _missing_within(summary):
        raise ConfigError(
            f"`{file}` is damaged: it lacks {', '.join(missing)}. Remove it, and have it written again: "
            f"`approxtrain train --resume {path}`."
        )
    return summary


def _status(summary: dict[str, Any], diverged: dict[str, Any] | None, done: int, epochs: int) -> tuple[Status, str]:
    if summary:
        return "finished", ""
    if diverged:
        what = "a parameter is not finite" if diverged["loss"] is None else f"the loss is {diverged['loss']}"
        return "diverged", f"diverged at step {diverged['step']}: {what}"
    return "unfinished", f"{done} of {epochs} epochs"


def _epochs(rows: list[dict[str, Any]], timing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `Archive.epochs` has, from the rows of one seed."""
    speeds = {row["epoch"]: row for row in timing}
    validation = {row["epoch"]: row for row in rows if row["kind"] == "validation"}
    epochs = []
    for row in (row for row in rows if row["kind"] == "train"):
        epoch = row["epoch"]
        values = {"epoch": epoch, "step": row["step"], "train_loss": row["loss"], "train_accuracy": row["accuracy"]}
        values |= {"learning_rate": row["learning_rate"]}
        if validated := validation.get(epoch):
            values |= {"validation_loss": validated["loss"], "validation_accuracy": validated["accuracy"]}
        speed = speeds.get(epoch, {})
        epochs.append(values | {key: speed[key] for key in ("seconds", "steps", "images_per_second") if key in speed})
    return epochs


def _of_seed(summary: dict[str, Any], seed: int) -> dict[str, Any]:
    """A summary with the outcome of one seed in place of the means; empty where there is none."""
    kept = {key: value for key, value in summary.items() if key != "by_seed" and not key.endswith("_sd")}
    return kept | next((one for one in summary.get("by_seed", []) if one["seed"] == seed), {})
