"""What a run saves so that it can go on, and the going on: as the same run, with all of its rows, or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from approxtrain.config import Config, refuse_changes
from approxtrain.errors import DataError
from approxtrain.models.target import look_in, origin
from approxtrain.run import archive, checkpoint, divergence, record
from approxtrain.run.environment import BITS_DEPEND_ON
from approxtrain.run.folder import RunFolder
from approxtrain.run.summary import rank
from approxtrain.training.events import Listener
from approxtrain.training.step import TrainState


class Facts(NamedTuple):
    """What a checkpoint records of its run besides its arrays and rows."""

    config: dict[str, Any]
    data: dict[str, str]
    environment: dict[str, Any]
    trajectory: int
    """That of the whole run, by whatever programs."""
    images: dict[str, Any]
    """What is needed to use the network without its data set: `classes`, `image_shape`, and `mean` and `std` of each
    channel, in units of the uint8 pixels."""
    chunk: int | None = None
    """Steps a call, where the run has decided them itself."""
    best: dict[str, Any] | None = None
    """`step`, `accuracy` and `loss` of the best validation so far, as `summary.rank` has it; of several seeds by their
    means."""
    plateau: int | None = None
    """The step from which on every layer is exact, once the run has found its plateau (`schedule.until_plateau`)."""
    origins: dict[str, dict[str, str]] | None = None
    """Of code of the user's own, by its key of the configuration: where it is from (`models.target.origin`)."""

    def after_validation(self, step: int, accuracy: float, loss: float) -> Facts:
        best = self.best  # without a loss in the checkpoints of earlier programs
        if best and rank(accuracy, loss) <= rank(best["accuracy"], best.get("loss", loss)):
            return self
        return self._replace(best={"step": step, "accuracy": accuracy, "loss": loss if math.isfinite(loss) else None})

    def on_a_plateau(self, step: int, patience: int | None, steps_between: int) -> bool:
        """Whether at the validation after `step` steps, `patience` of them or more, `steps_between` steps apart, have
        brought no better one; once, and never where the patience is None."""
        if patience is None or self.plateau is not None or self.best is None:
            return False
        return step - self.best["step"] >= patience * steps_between


OWN = ("model", "data")
"""Tables of the configuration that can name code of the user's own."""


def origins_of(config: Config, tables: Sequence[str] = OWN) -> dict[str, dict[str, str]]:
    """Where the user's own code is from that the configuration names. ConfigError where it cannot be imported."""
    targets = {f"{table}.target": getattr(config, table).target for table in tables}
    return {key: origin(target, key) for key, target in targets.items() if target}


def find_own_code(meta: dict[str, Any] | None) -> None:
    """Have the code of the user's own found where the run that saved `meta` had found it."""
    origins = (meta or {}).get("origins") or {}
    look_in(known["folder"] for known in origins.values() if "folder" in known)


def changed_network(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Of two checkpoints' facts: the module of the user's own network, if its source is another; None where it is the
    same, or the earlier ones do not tell.
    """
    digests = [((facts.get("origins") or {}).get("model.target") or {}).get("sha256") for facts in (before, after)]
    if digests[0] in (None, digests[1]):
        return None
    return before["config"]["model"]["target"].partition(":")[0]


def path_of(folder: RunFolder, state: TrainState) -> Path:
    """Where the checkpoint of `state` is, or would be."""
    return folder.checkpoints / f"step-{int(state.step):08d}"


def save(folder: RunFolder, state: TrainState, facts: Facts, rows: record.Record) -> None:
    """Save a checkpoint of `state`, which vouches for the rows that are written by now."""
    folder.refuse_moved()
    step = int(state.step)
    meta = {**facts._asdict(), "rows": rows.sync(step)}
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
    folder: RunFolder, initial: TrainState, facts: Facts, listener: Listener
) -> tuple[TrainState, Facts, record.Written | None]:
    """What to go on from: state, facts and rows of the newest usable checkpoint; what is given, and no rows, at first.

    Raises CheckpointError, DataError or ConfigError, with nothing changed, where this is not the run that was saved.
    """
    checkpoint.clean(folder.checkpoints)
    found = checkpoint.load_latest(folder.checkpoints, initial)
    if found is None:
        return initial, facts, None
    state, meta, skipped = found
    for line in skipped:
        listener.warn(f"A checkpoint was passed over: {line}. Going on from step {int(state.step)}.")
    refuse_changes(meta["config"], facts.config)
    if meta["data"] != facts.data:
        raise DataError(
            f"The run was trained on {meta['data']['name']} (SHA-256 {meta['data']['sha256'][:12]}…), but what is "
            f"there now is {facts.data['name']} ({facts.data['sha256'][:12]}…). Bring the first back (`data.dir`)."
        )
    before, here = meta["environment"], facts.environment
    if changed := [name for name in BITS_DEPEND_ON if before.get(name) != here[name]]:
        listener.warn(f"The run was begun elsewhere ({', '.join(changed)} differ): it goes on, but not bit for bit.")
    if changed := changed_network(meta, facts._asdict()):
        listener.warn(f"The source of {changed} has changed since the run began: it goes on, but not as the same run.")
    trajectory = facts.trajectory if meta["trajectory"] == facts.trajectory else archive.UNKNOWN
    facts = facts._replace(trajectory=trajectory, chunk=meta["chunk"], best=meta["best"])
    facts = facts._replace(plateau=meta.get("plateau"))  # earlier programs knew of none
    return state, facts, record.Written.of_json(meta["rows"])
