"""What a run saves so that it can go on, and the going on: as the same run, with all of its rows, or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from approxtrain.config import Config, plain, refuse_changes
from approxtrain.errors import DataError
from approxtrain.models.target import look_in, origin
from approxtrain.run import archive, checkpoint, divergence, record
from approxtrain.run.environment import BITS_DEPEND_ON, this_environment
from approxtrain.run.facts import Facts, Images, Origins, of_meta, to_meta
from approxtrain.run.folder import RunFolder
from approxtrain.run.team import Team
from approxtrain.training.events import Listener
from approxtrain.training.step import TrainState
from approxtrain.training.workload import Workload

OWN = ("model", "data")
"""Tables of the configuration that can name code of the user's own."""


def origins_of(config: Config, tables: Sequence[str] = OWN) -> Origins:
    """Where the user's own code is from that the configuration names. ConfigError where it cannot be imported."""
    targets = {f"{table}.target": getattr(config, table).target for table in tables}
    return {key: origin(target, key) for key, target in targets.items() if target}


def facts_of(config: Config, work: Workload, statistics: Sequence[Any]) -> Facts:
    """Those of a run that begins. `statistics`: mean and standard deviation of each channel."""
    mean, std = (np.asarray(of_channels).tolist() for of_channels in statistics)
    classes, shape = list(work.dataset.class_names), list(work.dataset.image_shape)
    images = Images(classes=classes, image_shape=shape, mean=mean, std=std)
    facts = (plain(config), work.data, this_environment(), archive.TRAJECTORY, images)
    return Facts(*facts, origins=origins_of(config))


def refuse_other_images(team: Team, work: Workload) -> None:
    """DataError where the processes of a run have different images."""
    if work.data != (first := team.agreed(work.data)):
        raise DataError(
            f"Process {team.number} has other images (SHA-256 {work.data['sha256'][:12]}…) than process 0 "
            f"({first['sha256'][:12]}…). Give each of them the same (`data.dir`)."
        )


def find_own_code(team: Team, facts: Facts | None) -> None:
    """Have the code of the user's own found where the run that saved `facts` had found it; the first process looks."""
    origins = team.agreed((facts and facts.origins) or {})
    look_in(known["folder"] for known in origins.values() if "folder" in known)


def changed_network(before: Facts, target: str | None, origins: Origins | None) -> str | None:
    """The module of the user's own network `target`, if its source was another when `before` was saved than `origins`
    say; None where it is the same, or the checkpoint does not tell.
    """
    digests = [(known or {}).get("model.target", {}).get("sha256") for known in (before.origins, origins)]
    return target.partition(":")[0] if target and digests[0] not in (None, digests[1]) else None


def path_of(folder: RunFolder, state: TrainState) -> Path:
    """Where the checkpoint of `state` is, or would be."""
    return folder.checkpoints / f"step-{int(state.step):08d}"


def save(folder: RunFolder, state: TrainState, facts: Facts, rows: record.Record) -> None:
    """Save a checkpoint of `state`, which vouches for the rows that are written by now."""
    folder.refuse_moved()
    step = int(state.step)
    meta = to_meta(facts, rows.sync(step))
    checkpoint.save(folder.checkpoints, step, state, meta, best=facts.best["step"] if facts.best else None)
    divergence.forget(folder.path, step)


def summary_of(folder: RunFolder, steps: int) -> dict[str, Any] | None:
    """The summary, where it is that of a run of `steps` steps: what was measured for it is kept."""
    try:
        summary = json.loads((folder.path / record.SUMMARY).read_text("utf-8"))
        return summary if summary["steps"] == steps else None  # else that of a shorter run, which went on
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing or damaged: it is made again from the rows


def restore(
    team: Team, folder: RunFolder, initial: TrainState, facts: Facts, listener: Listener
) -> tuple[TrainState, Facts, record.Written | None]:
    """What to go on from: state, facts and rows of the newest usable checkpoint; what is given, and no rows, at first.

    The first process of a team reads it, and the others have it from there, without rows. Raises CheckpointError,
    DataError or ConfigError, with nothing changed, where this is not the run that was saved.
    """
    state, facts, written = _restored(folder, initial, facts, listener) if team.is_first else (initial, facts, None)
    return team.from_first(state), Facts(**team.agreed(facts._asdict())), written


def _restored(
    folder: RunFolder, initial: TrainState, facts: Facts, listener: Listener
) -> tuple[TrainState, Facts, record.Written | None]:
    checkpoint.clean(folder.checkpoints)
    found = checkpoint.load_latest(folder.checkpoints, initial)
    if found is None:
        return initial, facts, None
    state, meta, skipped = found
    for line in skipped:
        listener.warn(f"A checkpoint was passed over: {line}. Going on from step {int(state.step)}.")
    before, written = of_meta(meta, folder.checkpoints)
    refuse_changes(before.config, facts.config)
    if before.data != facts.data:
        raise DataError(
            f"The run was trained on {before.data['name']} (SHA-256 {before.data['sha256'][:12]}…), but what is "
            f"there now is {facts.data['name']} ({facts.data['sha256'][:12]}…). Bring the first back (`data.dir`)."
        )
    there, here = before.environment, facts.environment
    if changed := [name for name in BITS_DEPEND_ON if there.get(name) != here[name]]:
        listener.warn(f"The run was begun elsewhere ({', '.join(changed)} differ): it goes on, but not bit for bit.")
    if changed := changed_network(before, facts.config["model"].get("target"), facts.origins):
        listener.warn(f"The source of {changed} has changed since the run began: it goes on, but not as the same run.")
    trajectory = facts.trajectory if before.trajectory == facts.trajectory else archive.UNKNOWN
    decided = {"chunk": before.chunk, "best": before.best, "plateau": before.plateau}
    return state, facts._replace(trajectory=trajectory, **decided), written
