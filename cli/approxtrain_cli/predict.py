"""`approxtrain predict`: what a trained network sees in pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from approxtrain.errors import DataError
from approxtrain_cli import output
from approxtrain_cli.evaluate import Checkpoint, Run, Seed, Which

AT_ONCE = 256


def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")],
    top: Annotated[int, typer.Option(help="Classes shown of each picture.", min=1)] = 1,
    checkpoint: Checkpoint = Which.BEST,
    seed: Seed = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line, with all classes.")] = False,
) -> None:
    """Say what a trained network sees in pictures, with its probability.

    A picture of another size is resized by its shorter side, and its middle is taken.

    \b
    approxtrain predict runs/mine photo.png
    approxtrain predict runs/mine photos/ --top 3
    approxtrain predict runs/mine photos/ --json > seen.jsonl
    """
    import numpy as np

    from approxtrain.data import files
    from approxtrain.training.loaded import load_run

    pictures = list(files.image_files(images))
    loaded = load_run(run, which=checkpoint.value, seed=seed)
    for warning in loaded.warnings:
        output.warn(warning)
    width = max(len(str(path)) for path in pictures)
    broken: list[str] = []
    for start in range(0, len(pictures), AT_ONCE):
        read = list(_read(files.read, pictures[start : start + AT_ONCE], loaded.image_shape, broken))
        if not read:
            continue
        probabilities = loaded.predict(np.stack([image for _, image in read]))
        for (path, _), of_image in zip(read, probabilities.tolist(), strict=True):
            ranked = sorted(zip(of_image, loaded.class_names, strict=True), reverse=True)
            if as_json:
                print(json.dumps({"image": str(path), "classes": {name: share for share, name in ranked}}))
            else:
                print(f"{path!s:<{width}}  " + ", ".join(f"{name} {share:.1%}" for share, name in ranked[:top]))
    if broken:  # said last, after what is known of the others
        raise DataError("\n  - ".join(broken if len(broken) == 1 else [f"{len(broken)} pictures are broken:", *broken]))


def _read(
    read: Callable[[Path, Any], Any], paths: Sequence[Path], shape: tuple[int, int, int], broken: list[str]
) -> Iterator[tuple[Path, Any]]:
    """The pictures that can be read; why the others cannot is added to `broken`."""
    for path in paths:
        try:
            yield path, read(path, shape)
        except DataError as error:
            broken.append(str(error))
