"""All keys of a configuration, with type, default and meaning, from the code that reads them. Imports no jax."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from approxtrain.config.sections import Config


class Key(NamedTuple):
    """One key; those of a list of tables have "[]" in their name."""

    name: str
    type: str
    default: str
    """As TOML has it; empty where the key has to be given, "unset" where it need not."""
    meaning: str


def keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[Key]:
    """Every key below `model`, tables before what follows them."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        table, several = _table(field.annotation)
        if table is not None and (several or model is Config):
            if several:
                yield Key(f"{key}[]", "list of tables", _default(field), _words(field))
            yield from keys(table, f"{key}[]." if several else f"{key}.")
        else:
            yield Key(key, describe(field.annotation), _default(field), _words(field))


def describe(annotation: Any) -> str:
    """A type in a user's words: "whole number", "true or false", "one of sgd, adam"."""
    simple = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "any value"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in simple:
        return simple[annotation]
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(each) for each in arguments if each is not type(None))
    if origin is tuple:
        return f"list of {describe(arguments[0])}"
    return "table"


def _table(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section behind an annotation, and whether there are several of them in a list."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    if origin in (Union, types.UnionType, Annotated):
        found = [_table(each) for each in arguments if each is not type(None)]
        return found[0] if len(found) == 1 else (None, False)
    if origin is tuple:
        return _table(arguments[0])[0], True
    return None, False


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "unset"
    return json.dumps(list(default) if isinstance(default, tuple) else default, ensure_ascii=False)


def _words(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())
