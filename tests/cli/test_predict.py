"""`approxtrain predict`: what it says of pictures of which some are broken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from approxtrain.training import loaded


@pytest.mark.parametrize("bad", [1, 2])
def test_a_broken_picture_takes_nothing_from_the_others(call, tmp_path, monkeypatch, bad):
    network = SimpleNamespace(
        warnings=(),
        image_shape=(8, 8, 3),
        class_names=("cat", "dog"),
        predict=lambda images: np.tile([0.75, 0.25], (len(images), 1)),
    )
    monkeypatch.setattr(loaded, "load_run", lambda run, **more: network)
    for name in "bc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    for name in "ad"[:bad]:
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    ended = call("predict", tmp_path, tmp_path)
    assert ended.code == 3
    assert ended.out.splitlines() == [f"{tmp_path / name}.png  cat 75.0%" for name in "bc"]
    assert all(f"{tmp_path / name}.png` cannot be read as a picture" in ended.err for name in "ad"[:bad])
    assert ended.err.startswith("error: 2 pictures are broken" if bad == 2 else "error: `")
