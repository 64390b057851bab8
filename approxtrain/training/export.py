"""A trained network as one safetensors file, which any framework reads without this program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from approxtrain import disk
from approxtrain.training.loaded import LoadedRun


def write_safetensors(run: LoadedRun, file: Path) -> None:
    """Arrays by their names in the module, joined by dots: "stage1.0.conv1.kernel", "stem.norm.mean". DiskError.

    The file's metadata are JSON, each by itself: the network with its arguments, the classes, the size of an image,
    mean and standard deviation of its channels, the data set, and the step.
    """
    from safetensors.numpy import save

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
