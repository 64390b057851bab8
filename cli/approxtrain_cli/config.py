"""`approxtrain config`: every key of a configuration; and `approxtrain cp`: a preset as a file of one's own."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from approxtrain.errors import ConfigError


def config(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page docs/configuration.md.")] = False,
) -> None:
    """List every key of a configuration, with its type, default and meaning.

    \b
    approxtrain config                         on the terminal
    approxtrain config --markdown > keys.md    as a page
    """
    if markdown:
        print(page(), end="")
        return
    from rich.console import Console
    from rich.table import Table

    from approxtrain.config.reference import keys

    console = Console(highlight=False)
    for section, of_section in groupby(keys(), key=lambda key: key.name.partition(".")[0]):
        table = Table("key", "default", "type", "meaning", box=None, pad_edge=False, header_style="bold")
        for key in of_section:
            table.add_row(key.name.removeprefix(f"{section}."), key.default or "required", key.type, key.meaning)
        console.print(f"\n[{section}]", style="bold", markup=False)
        console.print(table, markup=False)


def page() -> str:
    """docs/configuration.md."""
    from approxtrain.config.reference import keys

    lines = [
        "# Every key of a configuration",
        "",
        "Rendered by `approxtrain config --markdown`. A configuration is a TOML file with the tables below; on the",
        "command line a key is set by `KEY=VALUE`, such as `train.epochs=3`, and a whole table by",
        "`'schedule={ name = \"full\" }'`. `approxtrain cp PRESET FILE` writes a preset to begin from, and",
        "`approxtrain train FILE --dry-run` shows a file with all defaults filled in.",
    ]
    for section, of_section in groupby(keys(), key=lambda key: key.name.partition(".")[0]):
        lines += ["", f"## [{section}]", "", "| key | default | type | meaning |", "| --- | --- | --- | --- |"]
        for key in of_section:
            default = f"`{key.default}`" if key.default not in ("", "unset") else key.default or "required"
            name = key.name.removeprefix(f"{section}.")
            lines.append(f"| `{name}` | {default} | {key.type} | {key.meaning} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def cp(
    preset: Annotated[
        str, typer.Argument(metavar="PRESET", help="One of `approxtrain ls presets`.", show_default=False)
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it is written.", show_default=False)],
) -> None:
    """Copy a preset to a file of your own, to change it.

    \b
    approxtrain cp quickstart mine.toml
    approxtrain train mine.toml
    """
    from approxtrain import disk
    from approxtrain.config import preset_text

    if file.exists():
        raise ConfigError(f"`{file}` is there already: choose another name, or take it away.")
    disk.write(file, preset_text(preset))
    print(f"written   {file}; train it: approxtrain train {quote(str(file))}")
