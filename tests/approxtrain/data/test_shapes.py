"""The embedded data set: the same everywhere, balanced, and out of a linear model's reach."""

from __future__ import annotations

import numpy as np
import pytest

from approxtrain import data
from approxtrain.config import DataConfig
from approxtrain.data import shapes, store
from approxtrain.data.dataset import ImageSet, fingerprint
from approxtrain.errors import ConfigError

CONFIG = DataConfig(name="shapes")


@pytest.fixture(scope="module")
def drawn() -> ImageSet:
    return data.load(CONFIG)


@pytest.mark.gate
def test_every_machine_draws_the_same_bytes(drawn: ImageSet) -> None:
    assert drawn.sha256 == shapes.SHA256
    again = (drawn.train.images, drawn.train.labels, drawn.validation.images, drawn.validation.labels)
    assert fingerprint(*again) == shapes.SHA256


def test_the_layout_is_that_of_cifar10_images(drawn: ImageSet) -> None:
    assert drawn.train.images.shape == (shapes.TRAIN, 32, 32, 3)
    assert drawn.validation.images.shape == (shapes.TEST, 32, 32, 3)
    assert drawn.train.images.dtype == drawn.validation.images.dtype == np.uint8
    assert drawn.train.labels.dtype == drawn.validation.labels.dtype == np.int32
    assert len(drawn.class_names) == 10
    assert (drawn.name, drawn.source, drawn.validated_on) == ("shapes", "drawn by approxtrain", "test")
    assert data.train_size(CONFIG) == shapes.TRAIN


def test_every_class_is_drawn_equally_often(drawn: ImageSet) -> None:
    assert np.bincount(drawn.train.labels).tolist() == [shapes.TRAIN // 10] * 10
    assert np.bincount(drawn.validation.labels).tolist() == [shapes.TEST // 10] * 10


def test_no_test_image_is_a_training_image(drawn: ImageSet) -> None:
    train = {image.tobytes() for image in drawn.train.images}
    assert len(train) == shapes.TRAIN
    assert train.isdisjoint(image.tobytes() for image in drawn.validation.images)


def test_colour_does_not_tell_the_classes_apart(drawn: ImageSet) -> None:
    colours = drawn.train.images.mean(axis=(1, 2))
    of_classes = np.stack([colours[drawn.train.labels == label].mean(axis=0) for label in range(10)])
    assert np.abs(of_classes - of_classes.mean(axis=1, keepdims=True)).max() < 3  # grey on average, each of them
    assert of_classes.std(axis=0).max() < 0.5 * colours.std(axis=0).min()


@pytest.mark.gate
def test_a_linear_model_stays_under_60_percent(drawn: ImageSet) -> None:
    def features(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    train, test = features(drawn.train.images), features(drawn.validation.images)
    mean = train.mean(axis=0)
    train, test = train - mean, test - mean
    targets = np.eye(10, dtype=np.float32)[drawn.train.labels] - 0.1
    ridge = 1e3 * np.eye(train.shape[1], dtype=np.float32)  # the best of 10, 100, 1e3 and 1e4 on the test images
    weights = np.linalg.solve(train.T @ train + ridge, train.T @ targets)
    accuracy = ((test @ weights).argmax(axis=1) == drawn.validation.labels).mean()
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
        data.load(DataConfig(name="shapes", dir="images"))


def test_verify_compares_the_drawn_images_with_the_recorded_sum() -> None:
    source, checks = store.verify("shapes")
    assert source == "drawn by approxtrain"
    assert [(check.expected, check.passed) for check in checks] == [(shapes.SHA256, True)]
