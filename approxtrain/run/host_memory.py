"""Memory that the process has freed stays with it, so that the next step does not pay for it again.

A training step on a CPU allocates and frees hundreds of megabytes. glibc gives blocks above 32 MB back to the kernel
each time, and the first touch of every page of the next one is a page fault, which takes longer than to write it.
"""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # the numbers of <malloc.h>
_SETTINGS = {
    _MMAP_MAX: 0,  # large blocks come from the heap as well,
    _ARENA_MAX: 1,  # from the one heap that can grow without bound,
    _TRIM_THRESHOLD: 2**31 - 1,  # which is not given back,
    _TOP_PAD: 2**26,  # and grows by 64 MB at a time
}


kept = False
"""Whether `keep_freed` was asked and done in this process."""


def keep_freed() -> bool:
    """Ask glibc to keep what is freed; call it before threads start. False where it does not apply: another C library,
    a preloaded one, or `MALLOC_…` and GLIBC_TUNABLES in the environment, which are the user's own settings."""
    global kept
    theirs = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if theirs or platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ:
        return False
    libc = ctypes.CDLL(None)
    kept = all(libc.mallopt(option, value) == 1 for option, value in _SETTINGS.items())
    return kept
