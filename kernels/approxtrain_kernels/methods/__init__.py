"""The methods there are: every file of this folder with a class derived from `Method` is one, and so is every such
class that an installed package names as an entry point of the group `approxtrain.methods`. Imports no jax.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Container
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from approxtrain_kernels.method import Method

GROUP = "approxtrain.methods"
MEND = "Mend that package, or uninstall it."


class PluginError(ValueError):
    """What an installed package names as a method is none."""


@cache
def all_methods() -> dict[str, type[Method]]:
    """Name → class, `full` first and then in alphabetical order."""
    classes: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        file = importlib.import_module(f"{__name__}.{module.name}")
        for item in vars(file).values():
            if isinstance(item, type) and issubclass(item, Method) and item.__module__ == file.__name__:
                classes[item.name] = item
    for point in entry_points(group=GROUP):
        classes |= _installed(point, classes)
    return dict(sorted(classes.items(), key=lambda pair: (pair[0] != "full", pair[0])))


def _installed(point: EntryPoint, known: Container[str]) -> dict[str, type[Method]]:
    """The method of another package, by its name. PluginError where it is none, or has the name of a known one."""
    where = f"the entry point `{point.name} = {point.value}` of {GROUP}, of {point.dist.name if point.dist else '?'},"
    try:
        found = point.load()
    except Exception as error:
        raise PluginError(f"{where} cannot be imported: {type(error).__name__}: {error}. {MEND}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise PluginError(f"{where} is no class derived from approxtrain_kernels.Method. {MEND}")
    if found.name in known:
        raise PluginError(f"{where} is called {found.name!r}, as another method is: give it another `name`.")
    return {found.name: found}


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
