"""The file that `export` writes, and what it never writes over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from approxtrain.config import Config
from approxtrain.errors import ConfigError
from approxtrain.training.export import write_safetensors
from approxtrain.training.loaded import LoadedRun


@pytest.fixture
def run(configure, tmp_path) -> LoadedRun:
    """Of one array, after three steps."""
    config: Config = configure({"name": "full"})
    facts: dict[str, Any] = {"data": {"name": "pictures", "sha256": ""}, "class_names": ("a", "b")}
    mean, arrays = np.zeros(3, np.float32), {"conv/kernel": np.ones((2, 2), np.float32)}
    return LoadedRun(tmp_path, config, 3, **facts, image_shape=(32, 32, 3), mean=mean, std=mean + 1, arrays=arrays)


def test_an_earlier_export_is_replaced_and_nothing_else(run, tmp_path):
    file = tmp_path / "mine.safetensors"
    for _ in range(2):
        write_safetensors(run, file)
    with safe_open(file, "numpy") as written:
        assert json.loads(written.metadata()["step"]) == 3
    (tmp_path / "thesis.tex").write_text("years of work")
    save_file({"other": np.ones(2)}, tmp_path / "foreign.safetensors")
    for name in ("thesis.tex", "foreign.safetensors"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ConfigError, match=rf"{name}` is no earlier export, and is not written over"):
            write_safetensors(run, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_folder_or_a_path_without_one_is_called_so(run, tmp_path):
    with pytest.raises(ConfigError, match="is a folder: give --out a file"):
        write_safetensors(run, tmp_path)
    with pytest.raises(ConfigError, match=r"nodir` is no folder.*make it first"):
        write_safetensors(run, Path(tmp_path / "nodir/x.safetensors"))
