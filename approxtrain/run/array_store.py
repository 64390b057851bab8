"""Arrays in a folder, stored by Orbax bit for bit, whatever the folder is called.

Orbax looks for the parts of what it has just written with a pattern that begins with the folder's whole path, so a
`[1]` in the path of a run matches nothing, and `*` also what another run is writing. TensorStore takes a backslash
for a slash, and knows no name that is not UTF-8. So neither is shown a path with any but harmless characters: a link
leads to such a folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import DiskError

_HARMLESS = re.compile(r"[A-Za-z0-9/._+-]+")


class Unreadable(Exception):
    """Why the arrays in a folder cannot be had."""


def write(folder: Path, arrays: Sequence[Any]) -> None:
    """Store numpy arrays in the new folder `folder`, whose parent is there. Raises OSError where that fails."""
    with _orbax() as (ocp, checkpointer), _harmless(folder) as path:
        try:
            checkpointer.save(path, args=ocp.args.PyTreeSave(_stored(arrays)))
        except (ValueError, RuntimeError) as error:  # how tensorstore reports a full disk or a missing right
            raise disk.as_os_error(error) from error


def read(folder: Path, like: Sequence[Any]) -> list[Any]:
    """The numpy arrays in `folder`, which must be of the shapes and types of `like`. Raises Unreadable."""
    import numpy as np

    blanks = [np.empty(leaf.shape, leaf.dtype) for leaf in like]
    with _orbax() as (ocp, checkpointer), _harmless(folder) as path:
        try:
            stored = checkpointer.restore(path, args=ocp.args.PyTreeRestore(_stored(blanks)))
        except Exception as error:  # of whatever kind: an older checkpoint may still do
            reason = str(error).partition("\n")[0]
            raise Unreadable(f"Orbax cannot read it: {reason}") from error
    arrays = [np.asarray(stored.get(_key(index), blank)) for index, blank in enumerate(blanks)]
    for array, blank in zip(arrays, blanks, strict=True):
        if (array.shape, array.dtype) != (blank.shape, blank.dtype):
            raise Unreadable(f"Orbax read {array.dtype}{array.shape}, not {blank.dtype}{blank.shape}")
    return arrays


def _stored(arrays: Sequence[Any]) -> dict[str, Any]:
    """What Orbax sees: arrays by position, so that no path troubles it; not empty ones, which it refuses."""
    return {_key(index): array for index, array in enumerate(arrays) if array.size}


def _key(index: int) -> str:
    return f"{index:05d}"


@contextlib.contextmanager
def _harmless(folder: Path) -> Iterator[Path]:
    """An absolute path of harmless characters that leads to `folder`, by a link where its own has others."""
    absolute = folder.absolute()
    if _HARMLESS.fullmatch(str(absolute)):
        yield absolute
        return
    with tempfile.TemporaryDirectory(prefix="approxtrain-", dir=_place_for_links()) as place:
        link = Path(place, "link")
        link.symlink_to(absolute.parent, target_is_directory=True)
        yield link / absolute.name


def _place_for_links() -> str:
    """A folder for temporary files that has a harmless path of its own."""
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if _HARMLESS.fullmatch(os.path.abspath(place)) and os.access(place, os.W_OK | os.X_OK):
            return place
    raise DiskError(
        "The path of the run has characters that Orbax cannot deal with, and there is no folder of harmless characters "
        "for a link to it. Name the run (--out) with letters, digits, `.`, `_`, `+` and `-` only, or set TMPDIR to a "
        "writable folder that is named so."
    )


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
