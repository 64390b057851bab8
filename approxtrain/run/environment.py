"""Where a number was measured: device, machine, versions, flags, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from approxtrain.run import process

BITS_DEPEND_ON = ("device", "device_count", "processor", "cpu_count", "python", "versions", "xla_flags")
"""What must be the same for a resumed run to repeat the bits."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow", "grain")


def this_environment() -> dict[str, Any]:
    """Where a number was measured: device, machine, versions, flags, commit. Starts jax's backend."""
    import jax

    from approxtrain import __version__
    from approxtrain_kernels import native

    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "device_platform": devices[0].platform,
        "device_count": len(devices),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {"approxtrain": __version__} | {name: metadata.version(name) for name in _PACKAGES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "cpu_convolutions": f"our own for float32, {native.described()}" if native.available() else "XLA",
        "freed_memory_kept": process.freed_memory_kept,
        "git_commit": git_commit(),
    }


def _processor() -> str:
    """The processor's own name; on Linux `platform.processor` knows only the architecture."""
    return process.cpuinfo("model name").partition(":")[2].strip() or platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit this package runs from, "-dirty" added where files differ; None outside a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> str:
        # without its locks: a commit that is under way is not disturbed
        command = ["git", "--no-optional-locks", "-C", str(checkout), *words]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
