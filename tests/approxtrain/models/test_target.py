"""Mistakes in a network of a user's own: each is told in words, with the file and line where it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from approxtrain.errors import ConfigError
from approxtrain.models import Model

NETWORKS = """
import numpy as np
from flax import nnx

class Base(nnx.Module):
    def __init__(self, classes, *, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.logits = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        return self.logits(self.conv(x).mean((1, 2)))

class Init(Base):
    def __init__(self, classes, *, rngs):
        raise KeyError("width")

class Call(Base):
    def __call__(self, x):
        raise RuntimeError("no such luck")

class Used(Base):
    def __call__(self, x, train):
        if not train:
            raise RuntimeError("never tried")
        return super().__call__(x)

class One(Base):
    def __call__(self, x):
        return self.logits(self.conv(x).mean((1, 2))).reshape(1, -1)

class Tuple(Base):
    def __call__(self, x):
        return super().__call__(x), x

class Numbers(Base):
    def __call__(self, x):
        return np.asarray(super().__call__(x))

class Uncalled(nnx.Module):
    def __init__(self, *, rngs):
        pass

class Plain:
    def __init__(self, *, rngs):
        pass

def number(*, rngs):
    return 3

NOTHING = 3
"""
ON_GRAY = r"cannot be called on an image of 8×8×1: \w+Error: .*mynets.py, line 11\)\. Images of 3 .* data\.channels=3,"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Model]]:
    """`own("Net", channels=1)`: a network out of mynets.py in the working directory."""
    (tmp_path / "mynets.py").write_text(NETWORKS)
    (tmp_path / "broken.py").write_text("import numpy\n\ndef net(:\n")
    (tmp_path / "needy.py").write_text("import numpy\nimport a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def own(name: str, channels: int = 3) -> Model:
        target = name if ":" in name else f"mynets:{name}"
        return Model("mine", "", target, image_shape=(8, 8, channels))

    yield own
    for module in ("mynets", "broken", "needy"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Init",
            r"`model`: mynets:Init cannot be built: KeyError: 'width' \(mynets.py, line 15\)\. Mend it there; --debug",
        ),
        ("Call", r"Call cannot be called on an image of 8×8×3: RuntimeError: no such luck \(mynets.py, line 19\)\."),
        ("Used", r"on two images, in evaluation, of 8×8×3: RuntimeError: never tried \(mynets.py, line 24\)"),
        ("One", r"One makes \[1, 20\] of 2 images in evaluation, .* it must be \[2, 10\]"),
        ("Tuple", r"Tuple returns a tuple of one image\. It must return one array, \[1, 10\]"),
        ("Numbers", r"TracerArrayConversionError: .* array with shape float32\[1,10\] \(mynets.py, line 37\)"),
        ("Uncalled", r"Uncalled cannot be called on an image of 8×8×3: TypeError: 'Uncalled' object is not callable"),
        ("Plain", r"mynets:Plain makes an object of 'Plain', which is no flax.nnx.Module"),
        ("number", r"mynets:number makes an object of 'int', which is no flax.nnx.Module"),
        ("NOTHING", r"mynets:NOTHING cannot be built: TypeError: 3 is not a callable object"),
        ("Tupel", r"cannot be imported: `.*mynets.py` has no 'Tupel'\. Did you mean 'Tuple'\?"),
        ("broken:Net", r"cannot be imported: SyntaxError: .* \(broken.py, line 3\)\. Mend it there"),
        ("needy:Net", r"cannot be imported: ModuleNotFoundError: No module named 'a_pack.*\(needy.py, line 2\)"),
        ("nowhere:Net", r"cannot be imported: No module named 'nowhere'\. It is PACKAGE.MODULE:CLASS, .* PYTHONPATH"),
    ],
)
def test_a_mistake_is_told_in_words_with_its_line(name, message, own):
    with pytest.raises(ConfigError, match=message):
        own(name).check("float32")


def test_images_of_other_channels_are_told_with_the_key_that_helps(own):
    with pytest.raises(ConfigError, match=ON_GRAY):
        own("Base", channels=1).check("float32")
    own("Base").check("float32")
