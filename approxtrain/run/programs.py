"""Compiled programs are kept on disk, so that the next run of the same network starts at once.

jax's own compilation cache, in `$XDG_CACHE_HOME/approxtrain/programs` (`~/.cache` where that is not set), in a folder
for each kind of processor, because a program for one may stop another. `JAX_COMPILATION_CACHE_DIR` names another
folder, `JAX_ENABLE_COMPILATION_CACHE=0` turns it off. Nothing in it is needed: delete it when you like.

Our own convolutions on a CPU are not in it: a program calls them by name, and each process compiles them anew.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

SHORTEST = 0.3
"""Seconds of compiling from which on a program is kept."""


def keep(folder: Path | None = None) -> Path | None:
    """Turn the cache on for this process, and say where it is; None where the user's own settings stand."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.environ.get("JAX_ENABLE_COMPILATION_CACHE"):
        return None
    folder = folder or _default_folder()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _default_folder() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "approxtrain" / "programs" / _processor_kind()


def _processor_kind() -> str:
    """Eight digits for what the processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    abilities = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return hashlib.sha256("\n".join([platform.machine(), *abilities]).encode()).hexdigest()[:8]
