"""A data set of a user's own: three attributes, given to a run or named by `data.target`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from approxtrain import data
from approxtrain.config import DataConfig
from approxtrain.errors import ConfigError, DataError


class Stripes:
    """A data set in ten lines."""

    class_names = ("dark", "bright")

    def __init__(self, count: int = 8) -> None:
        self.train = [(np.full((12, 10, 3), 200 * (i % 2), np.uint8), i % 2) for i in range(count)]
        self.validation = self.train[:4]


def test_a_class_of_ones_own_is_a_target(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "stripes", sys.modules[__name__])
    found = data.load(DataConfig(target="stripes:Stripes", arguments={"count": 6}))  # pyright: ignore[reportCallIssue]
    assert (found.name, found.image_shape, len(found.train)) == ("Stripes", (12, 10, 3), 6)
    assert found.arrays[0].labels.tolist() == [0, 1] * 3
    with pytest.raises(ConfigError, match=r"data\.arguments"):
        data.load(DataConfig(target="stripes:Stripes", arguments={"size": 6}))  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigError, match=r"`data\.target` \(='stripes:Gone'\) cannot be imported"):
        data.load(DataConfig(target="stripes:Gone"))  # pyright: ignore[reportCallIssue]


def test_a_split_that_knows_its_labels_is_not_read_for_a_holdout() -> None:
    class Lazy(list):
        labels = (0, 1) * 50
        read: ClassVar[list[int]] = []

        def __getitem__(self, index):
            self.read.append(index)
            return np.zeros((12, 10, 3), np.uint8), self.labels[index]

    mine = Stripes()
    mine.train = Lazy(range(100))
    found = data.load(DataConfig(name="mine", stream=True, holdout=10), mine)
    assert len(mine.train.read) < 100
    assert sorted(label for _, label in found.validation) == [0] * 5 + [1] * 5


def test_a_data_set_may_say_its_own_name_and_which_images_it_has() -> None:
    mine = Stripes()
    assert data.load(DataConfig(name="shapes"), mine).name == "Stripes"
    mine.name, mine.sha256 = "stripes-v2", "ab" * 32
    assert data.load(DataConfig(name="shapes"), mine).identity == {"name": "stripes-v2", "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((np.zeros((12, 10, 3), np.uint8), 2), "image 7 of .* has the label 2; those of 2 classes are 0 to 1"),
        ((np.zeros((12, 10, 3)), 0), r"image 7 of .* is float64 \[12, 10, 3\], and not uint8"),
        ((np.zeros((12, 11, 3), np.uint8), 0), r"12×11×3.*data\.image_size"),
    ],
)
def test_what_is_no_image_is_named(item, message: str) -> None:
    mine = Stripes()
    mine.train[7] = item
    with pytest.raises(DataError, match=message):
        data.load(DataConfig(name="mine"), mine)


def test_the_data_set_of_the_documentation_works() -> None:
    text = (Path(__file__).parents[3] / "docs/data.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, type] = {}
    exec(code, names)
    found = data.load(DataConfig(name="mine"), names["Stripes"](count=20))
    assert (len(found.train), len(found.validation), found.image_shape) == (20, 10, (32, 32, 3))
    assert found.arrays[0].labels.tolist() == [0, 1] * 10


class Failing(Stripes):
    """Raises in its constructor, or where an image is asked for."""

    def __init__(self, where: str) -> None:
        super().__init__()
        if where == "init":
            raise TypeError("no such pets")
        if where == "item":
            self.train = Late(self.train)

    @property
    def validation(self):
        return {}["validation"]

    @validation.setter
    def validation(self, value) -> None:
        pass


class Late(list):
    def __getitem__(self, index):
        raise KeyError(f"pet {index}")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "init",
            r"`data.target`: stripes:Failing cannot be read: TypeError: no such pets \(.*test_dataset.py, line \d+",
        ),
        ("validation", r"stripes:Failing cannot be read: KeyError: 'validation' \(.*test_dataset.py, line \d+\)"),
        ("item", r"image 0 of the training images of `Failing` cannot be read: KeyError: 'pet 0' \(.*line \d+\)"),
    ],
)
def test_what_a_data_set_of_ones_own_raises_is_an_error_of_data_in_words(where, message, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "stripes", sys.modules[__name__])
    config = DataConfig(target="stripes:Failing", arguments={"where": where})  # pyright: ignore[reportCallIssue]
    if where == "item":
        monkeypatch.setattr(Failing, "validation", [1])
    with pytest.raises(DataError, match=message):
        data.load(config)


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_image_of_a_data_set_of_ones_own_is_skipped_as_the_error_advises(stream):
    class Split(list):
        def __getitem__(self, index):
            if index == 4:
                raise OSError("damaged")
            return super().__getitem__(index)

    items = [(np.full((8, 8, 3), number, np.uint8), number % 2) for number in range(64)]
    own = SimpleNamespace(class_names=("a", "b"), train=Split(items), validation=items[:3])
    table = {"name": "mine", "stream": stream}
    with pytest.raises(DataError, match=r"image 4 .* cannot be read: OSError: damaged.*data\.broken=skip"):
        data.load(DataConfig.model_validate(table), own)
    found = data.load(DataConfig.model_validate({**table, "broken": "skip"}), own)
    assert len(found.train) == (64 if stream else 63)
