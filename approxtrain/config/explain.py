"""Turns pydantic's findings into sentences: dotted path, value, rule, and the key that was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from approxtrain.errors import suggestion

Path = tuple[str | int, ...]

TYPES = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}
"""What TOML calls the types that pydantic names in Python's words."""

USUAL = {
    **dict.fromkeys(("lr", "eta", "step_size"), "learning_rate"),
    "wd": "weight_decay",
    **dict.fromkeys(("bs", "batch", "batchsize"), "batch_size"),
}
"""What other programs call a key, too far from ours to be found by its letters."""

LONGEST = 100
"""Characters of a value that are shown."""


def explain(error: ValidationError, model: type[BaseModel], table: dict[str, Any]) -> list[str]:
    """One sentence for each problem of `table`, in the order of the fields; a value that fits none of
    several types is one problem with all of their rules.
    """
    findings = [(finding, _path(finding, table)) for finding in error.errors(include_url=False)]
    rules: dict[str, list[str]] = {}
    for finding, path in findings:
        if finding["type"] == "too_short" and any(path == p[: len(path)] and path != p for _, p in findings):
            continue  # a list counts as empty where one of its items is wrong, which is reported by itself
        known = rules.setdefault(_subject(finding, path), [])
        rule = _rule(finding, path, model)
        if rule not in known:
            known.append(rule)
    return [_sentence(subject + " or ".join(alternatives)) for subject, alternatives in rules.items()]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", ")")) else f"{text}."


def _path(finding: ErrorDetails, table: dict[str, Any]) -> Path:
    """The finding's place, without the type names that pydantic adds where several types are allowed."""
    place = finding["loc"]
    node: Any = table  # a table, a list or a value
    path: list[str | int] = []
    for number, part in enumerate(place, start=1):
        places = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        if part in places:
            node = node[part]  # pyright: ignore[reportCallIssue, reportArgumentType]
            path.append(part)
        elif finding["type"] == "missing" and number == len(place):
            path.append(part)
    return tuple(path)


def _subject(finding: ErrorDetails, path: Path) -> str:
    dotted = ".".join(map(str, path))
    if finding["type"] in ("missing", "extra_forbidden"):
        return f"`{dotted}` "
    if finding["type"] == "value_error":
        return f"`{dotted}`: "
    shown = "" if isinstance(finding["input"], dict | list | tuple) else f"(={_shown(finding['input'])}) "
    return f"`{dotted}` {shown}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no decimal number of thousands of digits
        return "a number of too many digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _rule(finding: ErrorDetails, path: Path, model: type[BaseModel]) -> str:
    kind = finding["type"]
    if kind == "missing":
        return "is missing, and it has no default"
    if kind == "extra_forbidden":
        return _unknown(path, model)
    if kind == "value_error":
        return str(finding["ctx"]["error"])  # pyright: ignore[reportTypedDictNotRequiredAccess]
    if kind == "greater_than_equal":
        return f"must be greater than or equal to {finding['ctx']['ge']:g}"  # pyright: ignore[reportTypedDictNotRequiredAccess]
    if kind == "literal_error" and isinstance(finding["input"], str):
        choices = re.findall(r"'([^']*)'", str(finding["ctx"]["expected"]))  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return finding["msg"].replace("Input should be", "must be", 1) + "." + suggestion(finding["input"], choices)
    return TYPES.get(kind) or finding["msg"].replace("Input should be", "must be", 1)


def _unknown(path: Path, model: type[BaseModel]) -> str:
    word = str(path[-1])
    known = list(_keys(path[:-1], model))
    elsewhere = [f"{name}.{key}" for name in model.model_fields for key in _keys((name,), model) if key == word]
    meant = USUAL.get(word.lower())
    near = suggestion(word, known) or (f" Did you mean {elsewhere[0]!r}?" if elsewhere else "")
    hint = f" Did you mean {meant!r}?" if meant in known else near
    return f"is not a key of the configuration; the keys here are {', '.join(known)}.{hint}"


def _keys(path: Path, model: type[BaseModel]) -> Iterator[str]:
    """The keys that a table at `path` may have."""
    tables = [model]
    for part in path:
        deeper = [m for t in tables if part in t.model_fields for m in _models(t.model_fields[part].annotation)]
        tables = deeper or tables  # a position in a list, or a name of the user's: the same table
    for table in tables:
        yield from (field.alias or name for name, field in table.model_fields.items())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that occur in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
