"""Checkpoints under any path: what a folder is called decides neither what is stored nor where."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from approxtrain.run import checkpoint

ODD = ["a[1]", "a]b", "a*b", "a?b", "a\\b", "a b", "a\nb", "a'b\"c", "é", "%41", "~", "$x", os.fsdecode(b"\xff")]


def small(step: int) -> dict[str, np.ndarray]:
    return {"weight": np.full((4, 3), step, np.float32), "step": np.asarray(step, np.int32)}


@pytest.mark.parametrize("place", ["the folder", "a parent"])
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_checkpoint_comes_back_from_a_folder_of_any_name(tmp_path: Path, name: str, place: str) -> None:
    folder = tmp_path / name if place == "the folder" else tmp_path / name / "run"
    folder.mkdir(parents=True)
    for step in (1, 2):
        checkpoint.save(folder, step, small(step), {"step": step})
    found = checkpoint.load_latest(folder, small(0))
    assert found is not None
    state, meta, skipped = found
    assert (state["weight"].tolist(), meta, skipped) == (small(2)["weight"].tolist(), {"step": 2}, [])
    assert os.listdir(tmp_path) == [name]  # nothing was written beside it
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002"]
