"""A class of the user's own, by the name that a configuration gives it: `model.target`, `data.target`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from approxtrain.errors import ConfigError

PATTERN = r"^[\w.]+:\w+$"


def imported(target: str, key: str) -> Any:
    """What "package.module:Name" names; ConfigError, which says the `key` of the configuration, where it cannot be."""
    module, _, name = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # which `python -m` does, and an installed command does not
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"`{key}` (={target!r}) cannot be imported: {error}. It is PACKAGE.MODULE:CLASS, "
            "found from the folder that the command runs in, or among the installed packages."
        ) from error
