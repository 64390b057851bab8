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
    classes: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        file = importlib.import_module(f"{__name__}.{module.name}")
        for item in vars(file).values():
            if isinstance(item, type) and issubclass(item, Method) and item.__module__ == file.__name__:
                classes[item.name] = item
    return dict(sorted(classes.items(), key=lambda pair: (pair[0] != "full", pair[0])))


def make(name: str, **params: Any) -> Method:
    """The method `name` with its parameters. ValueError names what there is where name or parameter is unknown."""
    methods = all_methods()
    if name not in methods:
        close = difflib.get_close_matches(name, methods, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"`method` (={name!r}) must be one of {', '.join(methods)}.{hint}")
    for unknown in [param for param in params if param not in _names(methods[name])]:
        owners = ", ".join(other for other, kind in methods.items() if unknown in _names(kind))
        takes = ", ".join(_names(methods[name])) or "no parameter"
        hint = f" {unknown!r} belongs to {owners}: leave it out, or change the method." if owners else ""
        raise ValueError(f"method {name!r} has no parameter {unknown!r}; it takes {takes}.{hint}")
    return methods[name](**params)


def _names(kind: type[Method]) -> list[str]:
    """Everything that an instance can be made with."""
    return [field.name for field in fields(kind)]
