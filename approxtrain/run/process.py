"""What is set once for the whole process, before its first step. Importing it does not import jax.

**Memory that is freed stays with the process**, so that the next step does not pay for it again. A training step on a
CPU allocates and frees hundreds of megabytes. glibc gives blocks above 32 MB back to the kernel each time, and the
first touch of every page of the next one is a page fault, which takes longer than to write it.

**Compiled programs are kept on disk**, so that the next run of the same network starts at once: in jax's own
compilation cache, in `$XDG_CACHE_HOME/approxtrain/programs` (`~/.cache` where that is not set), in a folder for each
kind of processor, because a program for one may stop another. They are native code that is run unread, so that the
folder must be the user's alone. `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=0`
turns it off. Nothing in it is needed: delete it when you like. Our own convolutions on a CPU are not in it: a program
calls them by name, and each process compiles them anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path

from approxtrain import disk
from approxtrain.errors import DiskError

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # the numbers of <malloc.h>
_SETTINGS = {
    _MMAP_MAX: 0,  # large blocks come from the heap as well,
    _ARENA_MAX: 1,  # from the one heap that can grow without bound,
    _TRIM_THRESHOLD: 2**31 - 1,  # which is not given back,
    _TOP_PAD: 2**26,  # and grows by 64 MB at a time
}

freed_memory_kept = False
"""Whether `keep_freed_memory` was asked and done in this process."""

SHORTEST = 0.3
"""Seconds of compiling from which on a program is kept."""


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed; call it before threads start. False where it does not apply: another C library,
    a preloaded one, or `MALLOC_…` and GLIBC_TUNABLES in the environment, which are the user's own settings."""
    global freed_memory_kept
    theirs = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if theirs or platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ:
        return False
    libc = ctypes.CDLL(None)
    freed_memory_kept = all(libc.mallopt(option, value) == 1 for option, value in _SETTINGS.items())
    return freed_memory_kept


def keep_programs(folder: Path | None = None, warn: Callable[[str], None] = lambda text: None) -> Path | None:
    """Turn jax's cache on for this process, in a part of `folder`; returns that part.

    None where the user's own settings stand, and where the folder is not this user's alone: `warn` gets a sentence.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.environ.get("JAX_ENABLE_COMPILATION_CACHE"):
        return None
    try:
        folder = folder or _cache_folder()
        part = folder / _processor_kind()
        _make_private(folder)
        _make_private(part)
    except DiskError as error:
        warn(
            f"compiled programs are not kept. {error} Or name another folder (JAX_COMPILATION_CACHE_DIR=FOLDER), or do "
            "without (JAX_ENABLE_COMPILATION_CACHE=0)."
        )
        return None
    import jax

    jax.config.update("jax_compilation_cache_dir", str(part))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return part


def _cache_folder() -> Path:
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # pathlib's own
        raise DiskError("You have no home folder: set HOME or XDG_CACHE_HOME.") from None
    return root / "approxtrain" / "programs"


def _make_private(folder: Path) -> None:
    """Make `folder`, closed to others. DiskError where it was there and others may have put programs into it."""
    with disk.explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # its parents are made as the user's umask has it
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise DiskError(f"`{folder}` belongs to another user, whose programs would be run: remove it.")
        if found.st_mode & 0o022:
            raise DiskError(f"Others can write to `{folder}`, and their programs would be run: remove it.")
        folder.chmod(0o700)


def _processor_kind() -> str:
    """Eight digits for what the processor can do."""
    known = filter(None, [platform.machine(), cpuinfo("flags", "Features")])
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def cpuinfo(*keys: str) -> str:
    """The first line of Linux' /proc/cpuinfo that begins with one of `keys`; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(keys)), "")
