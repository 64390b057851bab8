"""How good a trained network is, in all and in each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from approxtrain import config as configuration
from approxtrain import data
from approxtrain.errors import ConfigError, DataError
from approxtrain.training.loaded import LoadedRun, load_run


def measure(
    folder: Path,
    overrides: Sequence[str] = (),
    split: str = "validation",
    which: Literal["best", "last"] = "best",
    seed: int | None = None,
) -> dict[str, Any]:
    """Loss and accuracy of the network of the run in `folder` on a split of its images: "train", "validation", "test".

    `overrides` are of [data]: with `data.dir=FOLDER` it looks at other images, of the same size and classes.
    ConfigError, DataError, CheckpointError.
    """
    if wrong := [text for text in overrides if not text.startswith("data.")]:
        raise ConfigError(f"`{wrong[0]}`: only keys of [data] may be changed, such as data.dir=FOLDER.")
    run = load_run(folder, which=which, seed=seed)
    settings = configuration.load(str((folder / "config.toml").absolute()), overrides)
    if split == "test" and settings.data.holdout:  # what was set aside validates; the test images are apart from it
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"holdout": 0})})
    dataset = data.load(settings.data)
    if tuple(dataset.class_names) != run.class_names or dataset.image_shape != run.image_shape:
        raise DataError(
            f"`{dataset.name}` has {len(dataset.class_names)} classes and images of {dataset.image_shape}, and the run "
            f"was trained on {len(run.class_names)} classes and {run.image_shape}."
        )
    images, labels = (
        (dataset.train_images, dataset.train_labels) if split == "train" else (dataset.test_images, dataset.test_labels)
    )
    return {
        "run": str(folder),
        "step": run.step,
        "split": split,
        "data": dataset.identity,
        "same_images": dataset.sha256 == run.data["sha256"],
        **_figures(run, images, labels),
    }


def _figures(run: LoadedRun, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    logits = run.logits(images).astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    right = logits.argmax(1) == labels
    classes = {
        name: {"images": int((labels == number).sum()), "accuracy": float(right[labels == number].mean())}
        if (labels == number).any()
        else {"images": 0, "accuracy": None}
        for number, name in enumerate(run.class_names)
    }
    return {"images": len(labels), "loss": float(losses.mean()), "accuracy": float(right.mean()), "classes": classes}
