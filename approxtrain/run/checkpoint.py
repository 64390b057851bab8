"""Checkpoints that are whole or refused: Orbax stores the arrays, a manifest of our own vouches for them.

    FOLDER/step-00000390/state/          the arrays, written by Orbax
                         meta.json       what the caller wants back besides them
                         MANIFEST.json   the arrays' paths, shapes and types; size and SHA-256 of every file

Orbax restores a flipped bit without a word (200 of 200 tried), so every byte is compared with the manifest
before Orbax is asked. A checkpoint is written under a `.tmp-` name and renamed once it is complete and on
the disk: what bears a `step-` name was once whole, and a kill at any moment costs at most the checkpoint
being written. "Newest" is the highest step in a name, never a time stamp.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import CheckpointError, DivergedError
from approxtrain.run import manifest

KEEP = 2
"""Checkpoints kept: the newest, and one to fall back to."""

_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY, _REPLACED = ".tmp-", ".old-"

PyTree = Any


def save(folder: Path, step: int, state: PyTree, meta: dict[str, Any]) -> Path:
    """Write `state` and `meta` as the checkpoint after `step` steps; returns its folder.

    `state` is any pytree of jax or numpy arrays; they are stored bit for bit. A checkpoint of the same step
    is replaced. Once it is in place, older ones but the newest are deleted, and so are later ones: a run
    that saves step 20 while there is a step 30 could not use that and fell back.

    Raises DivergedError, before anything is touched, where an array holds NaN or infinity; DiskError where
    the checkpoint cannot be written, and then the earlier ones are still there.
    """
    arrays = _on_host(state)
    _refuse_non_finite(arrays, step)
    target = folder / f"step-{step:08d}"
    temporary = folder / f"{_TEMPORARY}{target.name}"
    with disk.explained(target):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            _write_state(temporary / "state", arrays.values())
            (temporary / "meta.json").write_text(manifest.to_json(meta))
            manifest.write(temporary, step, _describe(arrays))
            _put_in_place(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        found = _found(folder)
        kept = [target, *(path for number, path in found if number < step)][:KEEP]
        for _, path in found:
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
    return target


def load_latest(folder: Path, like: PyTree) -> tuple[PyTree, dict[str, Any], list[str]] | None:
    """(state, meta, skipped) of the newest checkpoint that is whole, or None where there is no checkpoint
    at all.

    `like` gives the structure, shapes and types to expect: arrays or `jax.ShapeDtypeStruct`s. A leaf comes
    back as a numpy array where `like` has one, else as a jax array. `skipped` says which newer checkpoints
    were passed over, and why. Deletes nothing.

    Raises CheckpointError, which lists each checkpoint with its reason, where none can be used.
    """
    skipped: list[str] = []
    for step, path in _found(folder):
        try:
            manifest.verify(path, step, _describe(_leaves(like)))
            meta = json.loads((path / "meta.json").read_bytes())
            return _restore(path / "state", like), meta, skipped
        except (manifest.Unusable, OSError) as problem:
            skipped.append(f"{path.name}: {problem}")
    if not skipped:
        return None
    listing = "\n".join(f"  {line}" for line in skipped)
    raise CheckpointError(
        f"No checkpoint in `{folder}` can be used:\n{listing}\n"
        "Nothing was deleted. Bring one back from a backup, or start again with another --out."
    )


def clean(folder: Path) -> None:
    """Remove what a killed `save` left behind. Call it with the run folder locked, before `load_latest`."""
    with disk.explained(folder):
        for path in folder.glob(f"{_REPLACED}step-*"):
            original = folder / path.name.removeprefix(_REPLACED)
            if not original.exists():  # killed between the two renames of _put_in_place
                path.rename(original)
        for path in [*folder.glob(f"{_TEMPORARY}*"), *folder.glob(f"{_REPLACED}*")]:
            shutil.rmtree(path)


def _found(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of what is named like a checkpoint, the newest first; other names are left alone."""
    if not folder.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir()]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def _refuse_non_finite(arrays: dict[str, Any], step: int) -> None:
    import jax.numpy as jnp
    import numpy as np

    for path, array in arrays.items():
        # jnp's issubdtype, because to numpy bfloat16 is no float
        if jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(array).all():
            raise DivergedError(
                f"`{path}` is no longer finite after step {step}, so no checkpoint of it was written; "
                "earlier ones are kept. Try a smaller `optimizer.learning_rate`, or approximate fewer cells.",
                step - 1,
            )


def _put_in_place(temporary: Path, target: Path) -> None:
    """Give `temporary` its final name. A folder cannot be renamed over another, so an old one steps aside."""
    aside = target.with_name(f"{_REPLACED}{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    temporary.rename(target)
    disk.sync(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _write_state(folder: Path, arrays: Iterable[Any]) -> None:
    with _orbax() as (ocp, checkpointer):
        try:
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(_stored(arrays)))
        except (ValueError, RuntimeError) as error:  # how tensorstore reports a full disk or a missing right
            raise disk.as_os_error(error) from error


def _restore(folder: Path, like: PyTree) -> PyTree:
    import jax
    import jax.numpy as jnp
    import numpy as np

    wanted = list(_leaves(like).values())
    blanks = [np.empty(leaf.shape, leaf.dtype) for leaf in wanted]
    with _orbax() as (ocp, checkpointer):
        try:
            stored = checkpointer.restore(folder.absolute(), args=ocp.args.PyTreeRestore(_stored(blanks)))
        except Exception as error:  # of whatever kind: an older checkpoint may still do
            reason = str(error).partition("\n")[0]
            raise manifest.Unusable(f"Orbax cannot read it: {reason}") from error
    leaves = []
    for index, (leaf, blank) in enumerate(zip(wanted, blanks, strict=True)):
        array = stored.get(_key(index), blank)
        if (array.shape, array.dtype) != (blank.shape, blank.dtype):
            raise manifest.Unusable(f"Orbax read {array.dtype}{array.shape}, not {blank.dtype}{blank.shape}")
        leaves.append(array if isinstance(leaf, np.ndarray | np.generic) else jnp.array(array))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _stored(arrays: Iterable[Any]) -> dict[str, Any]:
    """What Orbax sees: arrays by position, so that no path troubles it; not empty ones, which it refuses."""
    return {_key(index): array for index, array in enumerate(arrays) if array.size}


def _key(index: int) -> str:
    return f"{index:05d}"


def _leaves(tree: PyTree) -> dict[str, Any]:
    """Path → leaf, in the order of the tree."""
    import jax

    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _on_host(state: PyTree) -> dict[str, Any]:
    """Path → numpy array."""
    import jax
    import numpy as np

    return {path: np.asarray(leaf) for path, leaf in _leaves(jax.device_get(state)).items()}


def _describe(leaves: dict[str, Any]) -> list[list[Any]]:
    return [[path, list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves.items()]


@contextlib.contextmanager
def _orbax() -> Iterator[tuple[Any, Any]]:
    """(orbax.checkpoint, a synchronous checkpointer), with the log lines and warnings of Orbax held back."""
    absl = logging.getLogger("absl")
    level = absl.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import orbax.checkpoint as ocp

        absl.setLevel(logging.CRITICAL)
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                yield ocp, checkpointer
        finally:
            absl.setLevel(level)
