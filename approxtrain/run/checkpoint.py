"""Checkpoints that are whole or refused: Orbax stores the arrays, a manifest of our own vouches for them.

    FOLDER/step-00000390/state/          the arrays, written by Orbax
                         meta.json       what the caller wants back besides them
                         MANIFEST.json   the arrays' paths, shapes and types; size and SHA-256 of every file

Orbax restores a flipped bit without a word (200 of 200 tried), so every byte is compared with the manifest
before Orbax is asked. A checkpoint is written under a `.tmp-` name and renamed once it is complete and on
the disk: what bears a `step-` name was once whole, and a kill at any moment costs at most the checkpoint
being written. "Newest" is the highest step in a name, never a time stamp.

What was written is read back, as a resume would, before an older one is deleted for it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import CheckpointError, DivergedError
from approxtrain.run import array_store, manifest

KEEP = 2
"""Checkpoints kept: the newest, and one to fall back to."""

_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY, _REPLACED = ".tmp-", ".old-"

PyTree = Any


def save(folder: Path, step: int, state: PyTree, meta: dict[str, Any]) -> Path:
    """Write `state` and `meta` as the checkpoint after `step` steps; returns its folder.

    `state` is any pytree of jax or numpy arrays; they are stored bit for bit. A checkpoint of the same step
    is replaced. Once it is in place and was read back, older ones but the newest are deleted, and so are later
    ones: a run that saves step 20 while there is a step 30 could not use that and fell back.

    Raises DivergedError, before anything is touched, where an array holds NaN or infinity; DiskError where
    the checkpoint cannot be written, CheckpointError where it does not come back as it was, and then the
    earlier ones are still there.
    """
    arrays = _on_host(state)
    _refuse_non_finite(arrays, step)
    target = folder / f"step-{step:08d}"
    temporary = folder / f"{_TEMPORARY}{target.name}"
    with disk.explained(target):
        try:
            folder.mkdir(exist_ok=True)  # not its parents: a run's folder that has gone must not appear again
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            array_store.write(temporary / "state", list(arrays.values()))
            (temporary / "meta.json").write_text(manifest.to_json(meta))
            manifest.write(temporary, step, _describe(arrays))
            aside = _put_in_place(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _refuse_unless_it_comes_back(target, step, arrays, meta, aside)
        shutil.rmtree(aside, ignore_errors=True)
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
    leaves = _leaves(like)
    for step, path in _found(folder):
        try:
            arrays, meta = _load(path, step, leaves)
            return _as_like(like, arrays), meta, skipped
        except (manifest.Unusable, array_store.Unreadable, OSError) as problem:
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


def _put_in_place(temporary: Path, target: Path) -> Path:
    """Give `temporary` its final name. A folder cannot be renamed over another, so an old one steps aside. → where."""
    aside = target.with_name(f"{_REPLACED}{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    temporary.rename(target)
    disk.sync(target.parent)
    return aside


def _refuse_unless_it_comes_back(
    target: Path, step: int, arrays: dict[str, Any], meta: dict[str, Any], aside: Path
) -> None:
    """Read the checkpoint `target` as a resume does; where it is not what was to be saved, take it away again."""
    try:
        found, found_meta = _load(target, step, arrays)
        changed = [path for (path, array), back in zip(arrays.items(), found, strict=True) if _bits_differ(array, back)]
        if changed or found_meta != json.loads(manifest.to_json(meta)):
            raise manifest.Unusable(f"{changed[0] if changed else 'meta.json'} comes back changed")
    except (manifest.Unusable, array_store.Unreadable, OSError) as problem:
        shutil.rmtree(target, ignore_errors=True)
        if aside.exists():
            aside.rename(target)
        raise CheckpointError(
            f"The checkpoint `{target}` was written, but does not come back as it was: {problem}. It was removed, and "
            "earlier ones are kept. Check the disk and the memory, then go on with `approxtrain train --resume`."
        ) from problem


def _load(path: Path, step: int, leaves: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """(numpy arrays of the shapes and types of `leaves`, meta) of the checkpoint in `path`, verified."""
    manifest.verify(path, step, _describe(leaves))
    meta = json.loads((path / "meta.json").read_bytes())
    return array_store.read(path / "state", list(leaves.values())), meta


def _as_like(like: PyTree, arrays: list[Any]) -> PyTree:
    """`arrays` in the tree `like`, on the device where that has no numpy array."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    on_host = [isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(like)]
    leaves = [array if here else jnp.array(array) for here, array in zip(on_host, arrays, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _bits_differ(array: Any, other: Any) -> bool:
    import numpy as np

    # as bytes: a zero of the other sign would pass as equal
    ours, theirs = (np.ravel(each).view(np.uint8) for each in (array, other))
    return not np.array_equal(ours, theirs)


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
