"""Checkpoints that are whole or refused: NumPy stores the arrays, and every byte is vouched for.

    FOLDER/step-00000390/arrays.npz   the arrays, each by its path in the tree
                         meta.json    a seal (the SHA-256 of the rest), format, step, the arrays' paths, shapes and
                                      types, the SHA-256 of arrays.npz, and what the caller wants back besides them

A checkpoint is written under a `.tmp-` name, read back as a resume would, and renamed once it is complete and on the
disk: what bears a `step-` name was once whole, and a kill at any moment costs at most the checkpoint being written.
"Newest" is the highest step in a name, never a time stamp. Imports no jax.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from approxtrain import disk
from approxtrain.data import numpy_files
from approxtrain.errors import CheckpointError, DivergedError

KEEP = 2
"""Checkpoints kept: the newest, and one to fall back to."""

_ARRAYS, _META, _FORMAT = "arrays.npz", "meta.json", 3
_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY = ".tmp-"

PyTree = Any


class _Unusable(Exception):
    """Why a checkpoint is passed over."""


class _Leaf(NamedTuple):
    """What an array is to be."""

    shape: tuple[int, ...]
    dtype: np.dtype


def save(folder: Path, step: int, state: PyTree, meta: dict[str, Any], best: int | None = None) -> Path:
    """Write `state` and `meta` as the checkpoint after `step` steps; returns its folder.

    `state` is any pytree of jax or numpy arrays; they are stored bit for bit. A checkpoint of the same step
    is replaced. Once it is in place, older ones but the newest and that of step `best` are deleted, and so are later
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
        if not folder.is_dir():
            folder.mkdir()  # not its parents: a run's folder that has gone must not appear again
            disk.sync(folder.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            _write(temporary, step, arrays, meta)
            _refuse_unless_it_comes_back(temporary, target, step, arrays, meta)
            if target.exists():  # it could not be used, else the run would have gone on from there
                shutil.rmtree(target)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        disk.sync(folder)
        found = _found(folder)
        kept = [target, *(path for number, path in found if number < step)][:KEEP]
        for number, path in found:
            if path not in kept and number != best:
                shutil.rmtree(path, ignore_errors=True)
    return target


def load_arrays(folder: Path, step: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(the arrays by their paths, meta) of the checkpoint of `step`, or the newest, whatever network it is of.

    Imports no jax. CheckpointError where there is none, or it is not whole.
    """
    numbers = [number for number, _ in _found(folder) if step is None or number == step]
    path = folder / f"step-{numbers[0]:08d}" if numbers else folder
    try:
        if not numbers:
            raise _Unusable("there is no checkpoint" if step is None else f"there is no checkpoint of step {step}")
        content = _sealed(path, numbers[0])
        leaves = {name: _Leaf(tuple(shape), _dtype(dtype)) for name, shape, dtype in content["arrays"]}
        arrays, meta = _load(path, numbers[0], leaves)
        return dict(zip(leaves, arrays, strict=True)), meta
    except (_Unusable, OSError) as problem:
        raise CheckpointError(f"`{path}`: {problem}.") from problem


def load_latest(folder: Path, like: PyTree) -> tuple[PyTree, dict[str, Any], list[str]] | None:
    """(state, meta, skipped) of the newest checkpoint that is whole, or None where there is no checkpoint
    at all.

    `like` gives the structure, shapes and types to expect: arrays or `jax.ShapeDtypeStruct`s. `skipped` says which
    newer checkpoints were passed over, and why. Deletes nothing.

    Raises CheckpointError, which lists each checkpoint with its reason, where none can be used.
    """
    import jax
    import jax.numpy as jnp

    skipped: list[str] = []
    leaves = _leaves(like)
    for step, path in _found(folder):
        try:
            arrays, meta = _load(path, step, leaves)
            return jax.tree.unflatten(jax.tree.structure(like), map(jnp.array, arrays)), meta, skipped
        except (_Unusable, OSError) as problem:
            skipped.append(f"{path.name}: {problem}")
    if not skipped:
        return None
    listing = "\n".join(f"  {line}" for line in skipped)
    raise CheckpointError(
        f"No checkpoint in `{folder}` can be used:\n{listing}\n"
        "Nothing was deleted. Bring one back from a backup, or start again with another --out."
    )


def latest_meta(folder: Path) -> dict[str, Any] | None:
    """The `meta` of the newest checkpoint whose meta.json is whole, its arrays unread; None where there is none."""
    for step, path in _found(folder):
        with contextlib.suppress(_Unusable, OSError):
            return _sealed(path, step)["meta"]
    return None


def clean(folder: Path) -> None:
    """Remove what a killed `save` left behind. Call it with the run folder locked."""
    with disk.explained(folder):
        for path in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path)


def _found(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of what is named like a checkpoint, the newest first; other names are left alone."""
    if not folder.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir()]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)


def _refuse_non_finite(arrays: dict[str, np.ndarray], step: int) -> None:
    import jax.numpy as jnp

    for path, array in arrays.items():
        # jnp's issubdtype, because to numpy bfloat16 is no float
        if jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(array).all():
            if step == 0:
                raise DivergedError(f"`{path}` is not finite before the first step: the network makes it so.", step)
            raise DivergedError(
                f"`{path}` is no longer finite after step {step}, so no checkpoint of it was written; "
                "earlier ones are kept. Try a smaller `optimizer.learning_rate`, or approximate fewer cells.",
                step,
            )


def _write(folder: Path, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Both files of a checkpoint, flushed to the disk."""
    np.savez(folder / _ARRAYS, **arrays)  # pyright: ignore[reportArgumentType]
    content = {"format": _FORMAT, "step": step, "arrays": _describe(arrays), "sha256": _sha256(folder / _ARRAYS)}
    content["meta"] = meta
    (folder / _META).write_text(_to_json({"seal": _seal(content), **content}))
    for path in (folder / _ARRAYS, folder / _META, folder):
        disk.sync(path)


def _refuse_unless_it_comes_back(
    folder: Path, target: Path, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> None:
    """Read the checkpoint in `folder`, which is to become `target`, as a resume does."""
    try:
        found, found_meta = _load(folder, step, arrays)
        for (path, array), back in zip(arrays.items(), found, strict=True):
            if array.tobytes() != back.tobytes():  # as bytes: a zero of the other sign would pass as equal
                raise _Unusable(f"{path} comes back changed")
        if found_meta != json.loads(_to_json(meta)):
            raise _Unusable(f"{_META} comes back changed")
    except (_Unusable, OSError) as problem:
        raise CheckpointError(
            f"The checkpoint `{target}` was written, but does not come back as it was: {problem}. It was removed, and "
            "earlier ones are kept. Check the disk and the memory, then go on with `approxtrain train --resume`."
        ) from problem


def _load(path: Path, step: int, leaves: dict[str, Any]) -> tuple[list[np.ndarray], dict[str, Any]]:
    """(numpy arrays of the shapes and types of `leaves`, meta) of the checkpoint in `path`, verified."""
    content = _sealed(path, step)
    for stored, wanted in zip(content["arrays"], _describe(leaves), strict=False):
        if stored != wanted:
            raise _Unusable(f"it holds {_words(*stored)} where this run has {_words(*wanted)}")
    if len(content["arrays"]) != len(leaves):
        raise _Unusable(f"it holds {len(content['arrays'])} arrays where this run has {len(leaves)}")
    if not (path / _ARRAYS).is_file():
        raise _Unusable(f"{_ARRAYS} is missing")
    if _sha256(path / _ARRAYS) != content["sha256"]:
        raise _Unusable(f"{_ARRAYS} is damaged: its SHA-256 is not the one in {_META}")
    try:
        stored = numpy_files.read(path / _ARRAYS)
        # a view, because NumPy reads bfloat16 back as bytes without a type
        arrays = [stored[name].view(leaf.dtype) for name, leaf in leaves.items()]
    except (numpy_files.UnreadableError, ValueError, TypeError, KeyError) as error:
        raise _Unusable(f"{_ARRAYS} cannot be read: {error}") from error
    if other := [name for (name, leaf), array in zip(leaves.items(), arrays, strict=True) if array.shape != leaf.shape]:
        raise _Unusable(f"{_ARRAYS} has another shape of {other[0]} than {_META} says")
    return arrays, content["meta"]


def _sealed(path: Path, step: int) -> dict[str, Any]:
    """What meta.json of the checkpoint of `step` in `path` says, its seal checked."""
    if not (path / _META).is_file():
        raise _Unusable(f"{_META} is missing")
    try:
        content = json.loads((path / _META).read_bytes())
        if content.pop("seal") != _seal(content) or content["format"] != _FORMAT or not _is_well_formed(content):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Unusable(f"{_META} is damaged, or another version of approxtrain wrote it") from None
    if content["step"] != step:
        raise _Unusable(f"{_META} is that of step {content['step']}")
    return content


def _is_well_formed(content: dict[str, Any]) -> bool:
    """Whether all is of its type in a meta.json whose seal is right: what a program wrote that is not this one."""
    described = [(name, shape, _dtype(dtype)) for name, shape, dtype in content["arrays"]]
    names = [name for name, _, _ in described]
    sizes = [size for _, shape, _ in described for size in shape]
    return (
        all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names)
        and all(type(size) is int and size >= 0 for size in sizes)
        and type(content["step"]) is int
        and isinstance(content["sha256"], str)
        and isinstance(content["meta"], dict)
    )


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(_to_json(content).encode()).hexdigest()


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leaves(tree: PyTree) -> dict[str, Any]:
    """ "params/stage1/0/conv1/kernel" → leaf, in the order of the tree."""
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _on_host(state: PyTree) -> dict[str, np.ndarray]:
    """Path → numpy array."""
    import jax

    return {path: np.asarray(leaf) for path, leaf in _leaves(jax.device_get(state)).items()}


def _describe(leaves: dict[str, Any]) -> list[list[Any]]:
    return [[path, list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves.items()]


def _dtype(name: str) -> np.dtype:
    import ml_dtypes  # bfloat16 and the like, which jax has from there

    return np.dtype(getattr(ml_dtypes, name, name))


def _words(path: str, shape: list[int], dtype: str) -> str:
    return f"{path} {dtype}[{','.join(map(str, shape))}]"
