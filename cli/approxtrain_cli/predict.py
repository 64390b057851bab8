"""`approxtrain predict`: what a trained network sees in pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

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
        output.tell(f"warning: {warning}")
    width = max(len(str(path)) for path in pictures)
    for start in range(0, len(pictures), AT_ONCE):
        some = pictures[start : start + AT_ONCE]
        probabilities = loaded.predict(np.stack([files.read(path, loaded.image_shape) for path in some]))
        for path, of_image in zip(some, probabilities.tolist(), strict=True):
            ranked = sorted(zip(of_image, loaded.class_names, strict=True), reverse=True)
            if as_json:
                print(json.dumps({"image": str(path), "classes": {name: share for share, name in ranked}}))
            else:
                print(f"{path!s:<{width}}  " + ", ".join(f"{name} {share:.1%}" for share, name in ranked[:top]))
