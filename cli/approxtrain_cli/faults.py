"""Which exceptions are a user's or the machine's to mend, and in what words."""

from __future__ import annotations

import os
import sys

from approxtrain.errors import ApproxtrainError, ConfigError, DiskError, MemoryShortError
from approxtrain_kernels.methods import PluginError


def known(error: Exception) -> ApproxtrainError | None:
    """What is a user's or the machine's to mend, in words; None of a fault of the program."""
    if isinstance(error, ApproxtrainError):
        return error
    if isinstance(error, PluginError):
        return ConfigError(str(error))
    if isinstance(error, OSError):
        return None if error.filename is None else _of_path(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # the latter is XLA's
        reason = str(error).partition("\n")[0] or "Python could have no more"
        return MemoryShortError(
            f"The memory did not suffice: {reason}. What was saved stays: `approxtrain train --resume DIR` goes on "
            "where more is free. A new run needs less with a smaller train.batch_size; on a GPU that others use as "
            "well, set XLA_PYTHON_CLIENT_PREALLOCATE=false."
        )
    return _of_device() if isinstance(error, RuntimeError | AssertionError) and "jax" in sys.modules else None


def _of_device() -> ConfigError | None:
    """That jax has no device, where that is so."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where a plugin is missing
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition("\n")[0] or "jax has no plugin for it that works here"
        return ConfigError(
            f"jax cannot start a device of JAX_PLATFORMS={asked}: {reason}. Unset JAX_PLATFORMS, "
            "and jax takes the best device that there is, or install jax for that device, such as jax[cuda13]."
        )
    return None


def _of_path(error: OSError) -> DiskError:
    """What is left of a path of the command line that cannot even be looked at: too long, or in a closed folder."""
    return DiskError(f"`{error.filename}` cannot be used: {error.strerror}. Give another path, or open it for you.")
