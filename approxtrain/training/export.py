"""A trained network as one safetensors file, which any framework reads without this program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from approxtrain import disk
from approxtrain.errors import ConfigError
from approxtrain.training.loaded import LoadedRun


def write_safetensors(run: LoadedRun, file: Path) -> None:
    """Arrays by their names in the module, joined by dots: "stage1.0.conv1.kernel", "stem.norm.mean".

    An earlier export is replaced; ConfigError where `file` is anything else. DiskError. The file's metadata are JSON,
    each by itself: the network with its arguments, the classes, the size of an image, mean and standard deviation of
    its channels, the data set, and the step.
    """
    from safetensors.numpy import save

    _refuse_foreign(file)
    model = run.config.model.network()
    facts = {
        "target": model.target,
        "arguments": dict(model.arguments),
        "classes": run.class_names,
        "image_shape": run.image_shape,
        "mean": run.mean.tolist(),
        "std": run.std.tolist(),
        "data": run.data,
        "step": run.step,
    }
    arrays = {name.replace("/", "."): np.ascontiguousarray(array) for name, array in run.arrays.items()}
    disk.write(file, save(arrays, {name: json.dumps(value) for name, value in facts.items()}))


def _refuse_foreign(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if file.is_dir():
        raise ConfigError(f"`{file}` is a folder: give --out a file, such as {file / 'NAME.safetensors'}.")
    if not file.parent.is_dir():
        raise ConfigError(f"`{file.parent}` is no folder, so `{file.name}` cannot be written there: make it first.")
    if not file.exists():
        return
    try:
        with safe_open(file, "numpy") as earlier:
            ours = {"target", "classes", "step"} <= (earlier.metadata() or {}).keys()
    except (OSError, SafetensorError):
        ours = False
    if not ours:
        raise ConfigError(f"`{file}` is no earlier export, and is not written over: give another --out.")
