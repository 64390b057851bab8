"""On the real images, where they are: the loader reads them, and a network learns from them."""

import numpy as np
import pytest

from approxtrain import data
from approxtrain.config import DataConfig, dump, load
from approxtrain.errors import DataError
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

pytestmark = [pytest.mark.gate, pytest.mark.real]


def test_the_real_images_are_complete_and_balanced(real_cifar):
    found = data.load(DataConfig(name="cifar10-jpeg75", dir=str(real_cifar)))
    assert found.train.images.shape == (50_000, 32, 32, 3)
    assert found.validation.images.shape == (10_000, 32, 32, 3)
    assert (np.bincount(found.train.labels) == 5_000).all()
    assert (np.bincount(found.validation.labels) == 1_000).all()


def test_the_real_images_are_refused_under_the_official_name(real_cifar):
    with pytest.raises(DataError, match=r"data\.name"):
        data.load(DataConfig(name="cifar10", dir=str(real_cifar)))


def test_a_network_learns_from_the_real_images(real_cifar, tmp_path):
    """60 steps of a small network: nothing near what it can reach, and well above the 10 % of guessing."""
    part = tmp_path / "cifar-10-batches-bin"
    part.mkdir()
    for batch in sorted((real_cifar / "cifar-10-batches-bin").glob("*.bin")):
        records = np.fromfile(batch, np.uint8, count=1536 * 3073)
        records.tofile(part / batch.name)
    config = load("quickstart", [f"data.dir={tmp_path}", "data.name=cifar10-jpeg75-part", "train.epochs=1"])
    losses = []

    class Losses(Listener):
        def step(self, step, loss):
            losses.append(loss)

    with RunFolder.create(tmp_path / "run") as folder:
        folder.config.write_text(dump(config))
        summary = Run(config, folder, Losses()).train()
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.2
    assert summary["final_accuracy"] > 0.2
    assert summary["data"]["name"] == "cifar10-jpeg75-part"
