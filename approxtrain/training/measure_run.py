"""How good a trained network is, in all and in each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from approxtrain import config as configuration
from approxtrain import data
from approxtrain.data.prepare import readers
from approxtrain.data.reading import Reader
from approxtrain.errors import ConfigError, DataError
from approxtrain.training.loaded import BATCH, LoadedRun, load_run


def measure(
    folder: Path,
    overrides: Sequence[str] = (),
    split: str = "validation",
    which: Literal["best", "last"] = "best",
    seed: int | None = None,
) -> dict[str, Any]:
    """Loss and accuracy of the network of the run in `folder` on a split of its images: "train", "validation", "test".

    `overrides` are of [data]: with `data.dir=FOLDER` it looks at other images, of the same size and classes; at all of
    them where they are not divided.
    ConfigError, DataError, CheckpointError.
    """
    if wrong := [text for text in overrides if not text.startswith("data.")]:
        raise ConfigError(f"`{wrong[0]}`: only keys of [data] may be changed, such as data.dir=FOLDER.")
    run = load_run(folder, which=which, seed=seed)
    settings = configuration.load(str((folder / "config.toml").absolute()), overrides)
    given = {text.partition("=")[0].strip() for text in overrides}
    dataset = None
    if split == "validation" and "data.dir" in given and "data.holdout" not in given:
        # what the run had set aside, or left out, was of its own images
        dataset = data.undivided(settings.data.model_copy(update={"holdout": 0, "limit": None}))
    dataset = dataset or data.load(settings.data)
    if split == "test":  # which may be others than those that are validated on
        dataset = data.tested(dataset, settings.data)
    if tuple(dataset.class_names) != run.class_names or dataset.image_shape != run.image_shape:
        raise DataError(
            f"`{dataset.name}` has {len(dataset.class_names)} classes and images of {dataset.image_shape}, and the run "
            f"was trained on {len(run.class_names)} classes and {run.image_shape}."
        )
    training, validating = readers(dataset, settings.data)
    return {
        "run": str(folder),
        "step": run.step,
        "split": split,
        "data": dataset.identity,
        "warnings": list(run.warnings),
        "same_images": dataset.sha256 == run.data["sha256"],
        **_figures(run, training if split == "train" else validating),
    }


def _figures(run: LoadedRun, reader: Reader) -> dict[str, Any]:
    losses, right, labels = [], [], []
    for start in range(0, len(reader.split), BATCH):
        pairs = [reader(index) for index in range(start, min(start + BATCH, len(reader.split)))]
        of_batch = np.array([label for _, label in pairs])
        logits = run.logits(np.stack([image for image, _ in pairs])).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(of_batch)), of_batch])
        right.append(logits.argmax(1) == of_batch)
        labels.append(of_batch)
    losses, right, labels = map(np.concatenate, (losses, right, labels))
    classes = {}
    for number, name in enumerate(run.class_names):
        of_class = right[labels == number]
        classes[name] = {"images": len(of_class), "accuracy": float(of_class.mean()) if len(of_class) else None}
    return {"images": len(labels), "loss": float(losses.mean()), "accuracy": float(right.mean()), "classes": classes}
