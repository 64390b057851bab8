"""`approxtrain export`: the weights of a trained network in a file for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from approxtrain_cli import output
from approxtrain_cli.evaluate import Checkpoint, Run, Seed, Which


class Format(StrEnum):
    SAFETENSORS = "safetensors"


def export(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="The file, new or an earlier export; RUN.safetensors where left out.")
    ] = None,
    checkpoint: Checkpoint = Which.BEST,
    seed: Seed = None,
    file_format: Annotated[Format, typer.Option("--format", help="What is written.")] = Format.SAFETENSORS,
) -> None:
    """Write the weights of a trained network to a file; docs/use.md shows how to load it in ten lines.

    \b
    approxtrain export runs/mine
    approxtrain export runs/mine --checkpoint last --out mine.safetensors
    """
    from approxtrain.training.export import write_safetensors
    from approxtrain.training.loaded import load_run

    loaded = load_run(run, which=checkpoint.value, seed=seed)
    for warning in loaded.warnings:
        output.warn(warning)
    file = out or run.with_name(f"{run.resolve().name}.{file_format.value}")
    write_safetensors(loaded, file)
    print(f"written   {file}: {len(loaded.arrays)} arrays of step {loaded.step}, {file.stat().st_size / 1e6:.1f} MB")
