"""The methods there are: every file of this folder with a class derived from `Method` is one. Imports no jax."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import fields
from functools import cache
from typing import Any

from approxtrain_kernels.method import Method


@cache
def all_methods() -> dict[str, type[Method]]:
    """Name → class, `full` first and then in alphabetical order."""
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        content = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        for item in content:
            if isinstance(item, type) and issubclass(item, Method) and item is not Method:
                found[item.name] = item
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != "full", pair[0])))


def make(name: str, **params: Any) -> Method:
    """The method `name` with its parameters. ValueError names what there is where name or parameter is unknown."""
    methods = all_methods()
    if name not in methods:
        close = difflib.get_close_matches(name, methods, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"`method` (={name!r}) must be one of {', '.join(methods)}.{hint}")
    known = [f.name for f in fields(methods[name])]
    unknown = [p for p in params if p not in known]
    if unknown:
        takes = f"takes {', '.join(known)}" if known else "takes no parameter"
        raise ValueError(f"method {name!r} has no parameter {unknown[0]!r}; it {takes}.")
    return methods[name](**params)
