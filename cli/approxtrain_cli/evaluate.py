"""`approxtrain evaluate`: how good a trained network is, on the images of its run or on others."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from approxtrain_cli import output


class Split(StrEnum):
    VALIDATION = "validation"
    TEST = "test"
    TRAIN = "train"


class Which(StrEnum):
    BEST = "best"
    LAST = "last"


Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]
Checkpoint = Annotated[Which, typer.Option(help="The one with the best validation, or the newest.")]
Seed = Annotated[int | None, typer.Option(help="Of a run of several seeds; the first where left out.")]


def evaluate(
    run: Run,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of [data]: data.dir=FOLDER for other images.")
    ] = None,
    split: Annotated[Split, typer.Option(help="validation: as in training; test: the test images.")] = Split.VALIDATION,
    checkpoint: Checkpoint = Which.BEST,
    seed: Seed = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say how good a trained network is: loss, accuracy, and the accuracy in each class.

    \b
    approxtrain evaluate runs/mine
    approxtrain evaluate runs/mine --split test
    approxtrain evaluate runs/mine data.dir=OTHER --json
    """
    from approxtrain.training.measure_run import measure

    found = measure(run, overrides or [], split.value, checkpoint.value, seed)
    for warning in found["warnings"]:
        output.warn(warning)
    if as_json:
        print(json.dumps(found))
        return
    print(f"images    {found['images']:,} of {found['data']['name']} ({split.value})")
    if not found["same_images"]:
        print("warning: these are not the images that the run was trained with (their SHA-256 differs)")
    print(f"network   after step {found['step']}, the {checkpoint.value} checkpoint")
    print(f"accuracy  {found['accuracy']:.2%}   loss {found['loss']:.4f}")
    width = max(map(len, found["classes"]))
    for name, of_class in found["classes"].items():
        share = f"{of_class['accuracy']:.2%}" if of_class["images"] else "–"
        print(f"  {name:<{width}}  {share:>7} of {of_class['images']:,}")
