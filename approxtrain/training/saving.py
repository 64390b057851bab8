"""What a run saves so that it can go on, and the going on: as the same run, with all of its rows, or not at all."""

from __future__ import annotations

from typing import Any, NamedTuple

from approxtrain.errors import DataError
from approxtrain.run import checkpoint, marks, record
from approxtrain.run.folder import RunFolder
from approxtrain.run.resume import refuse_changes
from approxtrain.training.events import Listener
from approxtrain.training.step import TrainState


class Facts(NamedTuple):
    """What a checkpoint records of its run; `restore` says what a difference means."""

    config: dict[str, Any]
    data: dict[str, Any]
    place: dict[str, Any]


class Found(NamedTuple):
    """What a run goes on from."""

    state: TrainState
    written: record.Written


def save(folder: RunFolder, state: TrainState, facts: Facts, rows: record.Record) -> None:
    """Save a checkpoint of `state`, which vouches for the rows that are written by now."""
    folder.refuse_moved()
    step = int(state.step)
    checkpoint.save(folder.checkpoints, step, state, {**facts._asdict(), "rows": rows.sync(step)})
    marks.saved(folder.path, step)


def restore(folder: RunFolder, like: TrainState, facts: Facts, listener: Listener) -> Found | None:
    """What the newest usable checkpoint in `folder` holds; None for a run that has not begun.

    Raises CheckpointError, DataError or ConfigError, with nothing changed, where this is not the run that was saved.
    """
    checkpoint.clean(folder.checkpoints)
    found = checkpoint.load_latest(folder.checkpoints, like)
    if found is None:
        record.refuse_changed(folder.path, None)
        return None
    state, meta, skipped = found
    for line in skipped:
        listener.warn(f"A checkpoint was passed over: {line}. Going on from step {int(state.step)}.")
    if meta["data"] != facts.data:
        raise DataError(
            f"The run was trained on {meta['data']['name']} (SHA-256 {meta['data']['sha256'][:12]}…), but what is "
            f"there now is {facts.data['name']} ({facts.data['sha256'][:12]}…). Bring the first back (`data.dir`)."
        )
    refuse_changes(meta["config"], facts.config)
    written = record.Written.of_json(meta["rows"])
    record.refuse_changed(folder.path, written)
    if changed := [name for name in facts.place if meta["place"].get(name) != facts.place[name]]:
        listener.warn(f"The run was begun elsewhere ({', '.join(changed)} differ): it goes on, but not bit for bit.")
    return Found(state, written)
