"""The embedded data set: the same everywhere, balanced, and out of a linear model's reach."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from approxtrain import data
from approxtrain.data import shapes, store
from approxtrain.data.dataset import Dataset, fingerprint
from approxtrain.errors import ConfigError

CONFIG = SimpleNamespace(name="shapes", dir=None, holdout=0, limit=None)


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return data.load(CONFIG)


def test_every_machine_draws_the_same_bytes(drawn: Dataset) -> None:
    assert drawn.sha256 == shapes.SHA256
    again = (drawn.train_images, drawn.train_labels, drawn.test_images, drawn.test_labels)
    assert fingerprint(*again) == shapes.SHA256


def test_the_layout_is_that_of_cifar10_images(drawn: Dataset) -> None:
    assert drawn.train_images.shape == (shapes.TRAIN, 32, 32, 3)
    assert drawn.test_images.shape == (shapes.TEST, 32, 32, 3)
    assert drawn.train_images.dtype == drawn.test_images.dtype == np.uint8
    assert drawn.train_labels.dtype == drawn.test_labels.dtype == np.int32
    assert len(drawn.class_names) == 10
    assert (drawn.name, drawn.source, drawn.validation) == ("shapes", "drawn by approxtrain", "test")
    assert data.train_size(CONFIG) == shapes.TRAIN


def test_every_class_is_drawn_equally_often(drawn: Dataset) -> None:
    assert np.bincount(drawn.train_labels).tolist() == [shapes.TRAIN // 10] * 10
    assert np.bincount(drawn.test_labels).tolist() == [shapes.TEST // 10] * 10


def test_no_test_image_is_a_training_image(drawn: Dataset) -> None:
    train = {image.tobytes() for image in drawn.train_images}
    assert len(train) == shapes.TRAIN
    assert train.isdisjoint(image.tobytes() for image in drawn.test_images)


def test_colour_does_not_tell_the_classes_apart(drawn: Dataset) -> None:
    colours = drawn.train_images.mean(axis=(1, 2))
    of_classes = np.stack([colours[drawn.train_labels == label].mean(axis=0) for label in range(10)])
    assert np.abs(of_classes - of_classes.mean(axis=1, keepdims=True)).max() < 3  # grey on average, each of them
    assert of_classes.std(axis=0).max() < 0.5 * colours.std(axis=0).min()


@pytest.mark.gate
def test_a_linear_model_stays_under_60_percent(drawn: Dataset) -> None:
    def features(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    train, test = features(drawn.train_images), features(drawn.test_images)
    mean = train.mean(axis=0)
    train, test = train - mean, test - mean
    targets = np.eye(10, dtype=np.float32)[drawn.train_labels] - 0.1
    ridge = 1e3 * np.eye(train.shape[1], dtype=np.float32)  # the best of 10, 100, 1e3 and 1e4 on the test images
    weights = np.linalg.solve(train.T @ train + ridge, train.T @ targets)
    accuracy = ((test @ weights).argmax(axis=1) == drawn.test_labels).mean()
    assert 0.15 < accuracy < 0.40  # about 0.23: above chance, so the labels do belong to the images


def test_a_mirrored_shape_is_the_same_shape_turned() -> None:
    line = np.linspace(-1, 1, 41, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    for name, field in shapes._FIELDS.items():
        inside, mirrored = field(x, y) < 0, field(-x, y) < 0
        turns = [np.rot90(mirrored, quarter) for quarter in range(4)]
        assert any((inside != turned).mean() < 0.02 for turned in turns), name


def test_a_folder_given_for_drawn_images_is_an_error() -> None:
    with pytest.raises(ConfigError, match="draws: leave it out"):
        data.load(SimpleNamespace(name="shapes", dir="images", holdout=0, limit=None))


def test_verify_compares_the_drawn_images_with_the_recorded_sum() -> None:
    source, checks = store.verify("shapes")
    assert source == "drawn by approxtrain"
    assert [(check.expected, check.passed) for check in checks] == [(shapes.SHA256, True)]
