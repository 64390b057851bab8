"""`approxtrain ls`: the presets, models, methods and schedules there are."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from approxtrain_kernels import Method


class Kind(StrEnum):
    PRESETS = "presets"
    MODELS = "models"
    METHODS = "methods"
    SCHEDULES = "schedules"


def ls(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything where it is left out.")] = None,
) -> None:
    """List the presets, models, methods and schedules.

    \b
    approxtrain ls
    approxtrain ls presets
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for number, wanted in enumerate([kind] if kind else Kind):
        header, rows = _content(wanted)
        table = Table(*header, box=None, pad_edge=False, title=None, header_style="bold")
        table.columns[0].no_wrap = True
        for row in rows:
            table.add_row(*row)
        if number:
            console.print()
        console.print(table)


def _content(kind: Kind) -> tuple[tuple[str, ...], Iterable[tuple[str, ...]]]:
    from approxtrain import config, models
    from approxtrain.schedule import named
    from approxtrain_kernels import methods

    match kind:
        case Kind.PRESETS:
            return ("preset", "purpose"), config.presets()
        case Kind.MODELS:
            rows = [(name, str(e.layers), f"{e.parameters:,}", e.summary) for name, e in models.ENTRIES.items()]
            return ("model", "layers", "parameters", "what it is"), rows
        case Kind.METHODS:
            rows = [(name, _parameters(method), method.summary) for name, method in methods.all_methods().items()]
            return ("method", "parameters", "what stands in for the gradients"), rows
        case Kind.SCHEDULES:
            rows = [(s.name, "any" if s.takes_method else "its own", s.summary) for s in named().values()]
            return ("schedule", "method", "what is approximated"), rows


def _parameters(method: type[Method]) -> str:
    return ", ".join(f"{field.name}={field.default}" for field in method.parameters()) or "none"
