"""Validation images taken from the training split, and the limit of a trial."""

from __future__ import annotations

import numpy as np
import pytest

from approxtrain.data.dataset import Arrays, ImageSet
from approxtrain.data.holdout import first, set_aside
from approxtrain.errors import ConfigError


def numbered(labels: np.ndarray) -> ImageSet:
    """A data set whose images carry their own number."""
    images = np.zeros((len(labels), 32, 32, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) % 256, np.arange(len(labels)) // 256
    names = tuple("abcdefghij")
    return ImageSet("n", "here", "0" * 64, names, Arrays(images, labels), Arrays(images[:7], labels[:7]))


def numbers(images: np.ndarray) -> list[int]:
    return (images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 0, 1].astype(int)).tolist()


@pytest.fixture
def whole() -> ImageSet:
    return numbered(np.repeat(np.arange(10, dtype=np.int32), 100))


def test_without_a_holdout_the_test_split_validates(whole: ImageSet) -> None:
    assert set_aside(whole, 0) is whole


def test_every_image_is_either_trained_on_or_held_out(whole: ImageSet) -> None:
    split = set_aside(whole, 200)
    assert split.validated_on == "holdout"
    assert sorted(numbers(split.train.images) + numbers(split.validation.images)) == list(range(1000))
    for images, labels in (
        (split.train.images, split.train.labels),
        (split.validation.images, split.validation.labels),
    ):
        assert labels.tolist() == [number // 100 for number in numbers(images)]


def test_the_holdout_is_always_the_same_and_grows_by_adding(whole: ImageSet) -> None:
    small, large = (numbers(set_aside(whole, count).validation.images) for count in (100, 300))
    assert small == numbers(set_aside(whole, 100).validation.images)
    assert small == large[-100:]
    assert small != sorted(small)


def test_class_shares_are_kept_even_where_classes_differ_in_size(whole: ImageSet) -> None:
    assert np.bincount(set_aside(whole, 200).validation.labels).tolist() == [20] * 10
    uneven = numbered(np.repeat(np.arange(3, dtype=np.int32), (600, 300, 100)))
    held = np.bincount(set_aside(uneven, 100).validation.labels)
    assert np.abs(held - (60, 30, 10)).max() <= 1


def test_the_name_of_the_bytes_does_not_change(whole: ImageSet) -> None:
    assert set_aside(whole, 10).sha256 == whole.sha256


@pytest.mark.parametrize("count", [-1, 1000, 5000])
def test_a_holdout_that_leaves_nothing_names_the_range(whole: ImageSet, count: int) -> None:
    with pytest.raises(ConfigError, match="between 0 and 999"):
        set_aside(whole, count)


def test_a_limit_keeps_the_first_images_of_either_split_whatever_is_held_out(whole: ImageSet) -> None:
    split = set_aside(whole, 200)
    few = first(split, 300)
    assert numbers(few.train.images) == numbers(split.train.images)[:300]
    assert few.train.labels.tolist() == split.train.labels.tolist()[:300]
    assert numbers(few.validation.images) == numbers(split.validation.images)  # fewer than the limit
    assert first(split, None) is split
    assert few.sha256 == whole.sha256
