"""Images that are streamed: batches that depend on seed and step alone, and what a run says of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import grain
import numpy as np
import pytest
from PIL import Image

from approxtrain import data
from approxtrain.config import Config
from approxtrain.data import store
from approxtrain.data.pictures import random_view
from approxtrain.errors import ConfigError, DataError
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.run.team import Team
from approxtrain.training.events import Listener
from approxtrain.training.feed import Stream, batches_from
from approxtrain.training.loop import Run
from approxtrain.training.parallel import Replicas
from approxtrain.training.workload import Workload

BATCH, EPOCHS = 8, 3
STEPS = 2  # in an epoch of 21 images


class Warned(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    """21 images to train on and 9 to validate on, of several sizes, in 3 classes, each of one colour."""
    root = tmp_path_factory.mktemp("pets")
    for split, count in (("train", 7), ("val", 3)):
        for label, name in enumerate(("bird", "cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                colour = (10 * number + 5, 100 * label, 200 if split == "train" else 0)
                Image.new("RGB", (40 + number, 50 - label), colour).save(root / split / name / f"{number}.png")
    return root


def configure(pets: Path, *, train: dict | None = None, **more: object) -> Config:
    return Config.model_validate(
        {
            "model": {"name": "cnn5"},
            "data": {"dir": str(pets), "image_size": 32, "stream": True, "workers": 0, **more},
            "train": {"epochs": EPOCHS, "batch_size": BATCH, "validate_every": 1, **(train or {})},
        }
    )


def stream(config: Config) -> Stream:
    return Stream(data.load(config.data), config)


def batches(config: Config, first: int = 0) -> list[tuple[bytes, list[int]]]:
    """Pixels and labels of each step from `first` on."""
    feed = stream(config)
    found = [feed.images(step) for step in range(first, STEPS * EPOCHS)]
    feed.close()
    return [(np.asarray(images.pixels).tobytes(), np.asarray(images.labels).tolist()) for images in found]


@pytest.fixture(scope="module")
def by_this_process(pets) -> list[tuple[bytes, list[int]]]:
    return batches(configure(pets))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.gate), pytest.param(4, marks=pytest.mark.long)])
def test_batches_are_the_same_whoever_reads_them(pets, by_this_process, workers):
    assert batches(configure(pets, workers=workers)) == by_this_process


def test_a_stream_begins_at_any_step(pets, by_this_process):
    for first in (1, 3):
        assert batches(configure(pets), first) == by_this_process[first:]
    feed = stream(configure(pets))
    assert np.asarray(feed.images(5).pixels).tobytes() == by_this_process[5][0]
    assert np.asarray(feed.images(2).pixels).tobytes() == by_this_process[2][0]


class PartOf(Replicas):
    """What a process of several reads, without the others."""

    def __init__(self, number: int, count: int) -> None:
        super().__init__(())
        self._part = number, count

    @property
    def part(self) -> tuple[int, int]:
        return self._part


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_that_processes_read_make_up_the_batches_of_one(pets, by_this_process, count, first):
    feeds = [Stream(data.load((config := configure(pets)).data), config, PartOf(i, count)) for i in range(count)]
    for step in range(first, STEPS * EPOCHS):
        parts = [feed.images(step) for feed in feeds]
        assert [len(images.labels) for images in parts] == [BATCH // count] * count
        pixels, labels = (np.concatenate([getattr(images, name) for images in parts]) for name in ("pixels", "labels"))
        assert (pixels.tobytes(), labels.tolist()) == by_this_process[step]


@pytest.mark.parametrize("first", [0, 5, 26])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_images_of_a_step_are_the_same_for_any_number_of_processes_and_after_a_resume(count, first):
    """Each epoch has an order that seed and epoch determine, of which a step takes the next images."""
    size, epochs, order = 40, 3, grain.MapDataset.range(1003).seed(7).shuffle()
    right = [
        [order[1003 * epoch + i] % 1003 for i in range(40 * k, 40 * k + 40)] for epoch in range(3) for k in range(25)
    ]
    parts = [batches_from(first, order, size, epochs, (number, count)) for number in range(count)]
    found = [np.concatenate([part[step] for part in parts]).tolist() for step in range(len(parts[0]))]
    assert found == right[first:]
    assert len({tuple(batch) for batch in right}) == 75


class Second(Team):
    """A process that is told what the first one has found."""

    def from_first(self, tree: tuple) -> tuple:
        assert [(array.shape, array.dtype) for array in tree] == [((3,), np.float32)] * 2
        return np.full(3, 7, np.float32), np.full(3, 9, np.float32)


def test_of_several_processes_the_first_says_what_mean_and_deviation_are(pets):
    config = configure(pets)
    feed = Stream(data.load(config.data), config, team=Second(number=1, count=2))
    images = feed.images(0)
    feed.close()
    assert (images.mean.tolist(), images.std.tolist()) == ([7] * 3, [9] * 3)


def test_another_seed_and_another_epoch_are_other_batches(pets, by_this_process):
    other = batches(configure(pets, train={"seed": 1}))
    assert len({pixels for pixels, _ in by_this_process + other}) == 2 * STEPS * EPOCHS


def test_an_epoch_takes_no_image_twice(pets):
    feed = stream(configure(pets, train={"augment": False}))
    for epoch in range(EPOCHS):
        taken = [feed.images(STEPS * epoch + step).pixels[:, 16, 16].tolist() for step in range(STEPS)]
        assert len({tuple(colour) for batch in taken for colour in batch}) == STEPS * BATCH


def test_validation_goes_through_every_image_once_and_fills_up_the_last_batch(pets):
    found = list(stream(configure(pets)).validation())
    assert [images.pixels.shape for images in found] == [(BATCH, 32, 32, 3)] * 2
    labels = [label for images in found for label in images.labels.tolist()]
    assert labels == [0] * 3 + [1] * 3 + [2] * 3 + [-1] * 7
    assert found[0].pixels[4, 5, 5].tolist() == [15, 100, 0]


def test_mean_and_deviation_are_those_of_the_images(pets):
    images = stream(configure(pets)).images(0)
    train, _ = data.load(configure(pets, stream=False).data).arrays
    pixels = train.images.astype(np.float64)
    np.testing.assert_allclose(images.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(images.std[:2], pixels.std((0, 1, 2))[:2], rtol=1e-6)  # blue is the same everywhere


def test_a_random_view_is_a_part_of_the_image_and_flips_it_half_of_the_time():
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(60)[:, None], np.arange(80)
    views = [random_view(image, (32, 24), 0.2, np.random.default_rng(seed)) for seed in range(200)]
    assert {view.shape for view in views} == {(32, 24, 3)}
    flipped = sum(bool(view[5, 0, 1] > view[5, -1, 1]) for view in views)
    assert 70 < flipped < 130
    areas = [np.ptp(view[..., 0].astype(float)) * np.ptp(view[..., 1].astype(float)) / (60 * 80) for view in views]
    assert 0.15 < min(areas) < 0.3
    assert 0.7 < max(areas) <= 1


def test_an_image_that_a_worker_cannot_read_is_named(pets, tmp_path):
    broken = with_a_broken_image(pets, tmp_path)
    with pytest.raises(DataError, match=rf"`{broken}` cannot be read"):
        batches(configure(tmp_path, workers=1))


@pytest.mark.gate
def test_a_worker_that_is_killed_is_an_error_in_words(pets):
    feed = stream(configure(pets, workers=1, train={"epochs": 10_000}))
    feed.images(0)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(DataError, match=r"ended from outside.*data\.workers=N"):
        _ = [feed.images(step) for step in range(1, 100)]


LATE = """
import multiprocessing, os, signal, sys, time

def late(parent):
    while os.getppid() == parent:
        time.sleep(0.01)
    from approxtrain.training.feed import _begin_worker
    _begin_worker(0, 1)
    print("begun", flush=True)
    time.sleep(300)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=late, args=[os.getpid()]).start()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.gate
def test_a_worker_that_begins_after_the_run_was_killed_ends_too(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    orphan = subprocess.Popen(
        [sys.executable, tmp_path / "late.py"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert orphan.communicate(timeout=60)[0].strip() in ("", "begun")  # its end of the pipe is closed, so it ended
    assert orphan.returncode == -signal.SIGKILL


def with_a_broken_image(pets: Path, folder: Path) -> Path:
    for file in pets.rglob("*.png"):
        place = folder / file.relative_to(pets)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    broken = folder / "train/cat/3.png"
    broken.write_bytes(broken.read_bytes()[:40] + b"cut off")
    return broken


def start(path: Path, config: Config, dataset: data.Dataset | None = None, listener: Listener | None = None) -> dict:
    with RunFolder.create(path) as folder:
        return Run(config, folder, listener or Listener(), dataset).train()


def test_a_run_streams_and_says_how_its_steps_waited(pets, tmp_path, small):
    warned = Warned()
    summary = start(tmp_path / "run", configure(pets, train={"chunk": 4, "probe_every": 3}), listener=warned)
    assert summary["steps"] == STEPS * EPOCHS
    assert (summary["final_accuracy"] * 9) % 1 == pytest.approx(0, abs=1e-9)
    assert (summary["data_workers"], summary["chunk"]) == (0, 1)
    assert 0 <= summary["data_wait_share"] <= 1
    assert summary["images_per_second"] > 0
    assert json.loads((tmp_path / "run" / record.SUMMARY).read_text())["data_start_seconds"] > 0
    epochs = [json.loads(line) for line in (tmp_path / "run" / record.TIMING).read_text().splitlines()]
    assert len(epochs) == EPOCHS
    assert sum(row["data_wait_seconds"] for row in epochs) == pytest.approx(summary["data_wait_seconds"]) != 0
    assert any("streamed, a batch a step" in warning for warning in warned.warnings)


def test_what_is_skipped_while_streaming_is_counted_and_batches_stay_full(pets, tmp_path, small):
    with_a_broken_image(pets, tmp_path / "images")
    (tmp_path / "images/val/dog/1.png").write_bytes(b"nothing")
    summary = start(tmp_path / "run", configure(tmp_path / "images", broken="skip"))
    assert summary["skipped_images"] == 2
    assert (summary["final_accuracy"] * 8) % 1 == pytest.approx(0, abs=1e-9)


def test_several_seeds_on_a_stream_are_refused_in_words(pets):
    with pytest.raises(ConfigError, match=r"`train\.seeds` \(=2\).*data\.stream=false"):
        Workload.of(configure(pets, train={"seeds": 2}))


class Mine:
    """A data set that nothing on a disk belongs to."""

    class_names = ("dark", "bright")

    def __init__(self) -> None:
        self.train = [(np.full((32, 32, 3), 200 * (i % 2), np.uint8), i % 2) for i in range(16)]
        self.validation = self.train[:6]


@pytest.mark.parametrize("streamed", [pytest.param(False, marks=pytest.mark.gate), True])
def test_a_data_set_is_given_to_a_run_which_then_looks_for_none(tmp_path, small, monkeypatch, streamed):
    monkeypatch.setattr(store, "locate", None)
    config = configure(tmp_path / "nowhere", stream=streamed, image_size=None)
    summary = start(tmp_path / "run", config, Mine())
    assert summary["data"]["name"] == "nowhere"
    assert summary["data"]["validation"] == "validation"
    assert summary["steps"] == STEPS * EPOCHS
