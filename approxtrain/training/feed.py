"""The images of each step: gathered from those that lie on the device, or streamed by Grain.

Which images a step takes and what it sees of them is a pure function of seed and step, however many processes read
them, so nothing of it is stored in a checkpoint: a stream begins at any step.

Small sets: order, crop and flip are drawn in the compiled step (`batch.py`). Streams: Grain draws the order of each
epoch, and a random generator for each image of it; Pillow decodes and cuts in worker processes; the compiled step
normalises. Batches are prefetched, so that a step finds its own on the device.

Of several processes each reads its own part of every batch. Order and draws are those of the whole batch, so that the
images of a step, and what is seen of them, are the same for any number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from approxtrain.config import Config
from approxtrain.data import Arrays, ImageSet
from approxtrain.data.prepare import readers
from approxtrain.data.reading import View
from approxtrain.errors import DataError
from approxtrain.run.team import ALONE, Team
from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.training.parallel import ONE, Replicas
from approxtrain.training.signals import HANDLED

READY = 1e-3
"""A batch that takes longer than this many seconds to come has made its step wait."""
SAMPLE = 2_000
"""Training images, evenly spaced, that mean and standard deviation of a stream are those of."""
_AHEAD = 2
"""Batches that are ready before they are needed: in each process, on the host, on the device."""

Batch = dict[str, Any]
"""Pixels, labels, what counts and what was skipped: arrays of NumPy, and on devices what `Images` takes of them."""

_order = jax.jit(epoch_order, static_argnames="size")


class OnDevice:
    """The whole data set on the device; of several replicas, on each, and on the first what is validated on."""

    streamed = False
    start_seconds = 0.0
    """Spent so far on starting to read."""
    skipped: frozenset[tuple[str, int]] = frozenset()
    """Broken images that were left out while training: split and number."""

    def __init__(self, dataset: ImageSet, keys: Keys, replicas: Replicas = ONE) -> None:
        train, validation = dataset.arrays
        self._keys, self._replicas = keys, replicas
        on_device = Images(*map(jax.device_put, (train.images, train.labels, *channel_statistics(train.images))))
        self._train = replicas.place(on_device)
        validating = map(jax.device_put, (validation.images, validation.labels))
        self.validation = Images(*validating, mean=on_device.mean, std=on_device.std)

    @property
    def statistics(self) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of each channel, in units of the uint8 pixels."""
        return self._train.mean, self._train.std

    def order(self, epoch: int) -> jax.Array:
        """Which of its images the steps of an epoch take, of each seed."""
        order = _order(self._keys.order, epoch=jnp.int32(epoch), size=len(self._train.labels))
        return self._replicas.place(order)

    def images(self, step: int) -> Images:
        """Those that a step takes its batch from."""
        return self._train

    def figures(self) -> dict[str, Any]:
        """What a summary says of the reading."""
        return {}

    def waited(self) -> dict[str, float]:
        """What the row of an epoch says of it."""
        return {}

    def close(self) -> None:
        """Stop reading ahead."""


def feed_of(dataset: ImageSet, config: Config, keys: Keys, replicas: Replicas, team: Team) -> OnDevice | Stream:
    """Streamed where the images do not lie in memory."""
    return Stream(dataset, config, replicas, team) if dataset.streamed else OnDevice(dataset, keys, replicas)


def reading(feed: OnDevice | Stream, dataset: ImageSet, config: Config, seconds: Sequence[float]) -> dict[str, Any]:
    """How the images of steps that took so many seconds were read: of a stream, and of one with broken images."""
    skipped = len(dataset.skipped) + len(feed.skipped)
    figures = feed.figures()
    if figures and seconds:
        figures["images_per_second"] = config.train.batch_size * len(seconds) / sum(seconds)
    return figures | ({"skipped_images": skipped} if config.data.broken == "skip" else {})


class Stream:
    """The images that a step takes, and no others, read while the steps before it run.

    Of a team each process reads those of its own devices. Figures and skipped images are of this process alone.
    """

    streamed = True

    def __init__(self, dataset: ImageSet, config: Config, replicas: Replicas = ONE, team: Team = ALONE) -> None:
        data, train = config.data, config.train
        self._replicas, self._part = replicas, replicas.part
        self.batch, self._seed, self._epochs = train.batch_size, train.seed, train.epochs
        self._skip = data.broken == "skip"
        default = 0 if isinstance(dataset.train, Arrays) else min(4, os.cpu_count() or 1)
        self.workers = default if data.workers is None else data.workers
        training, validating = readers(dataset, data)
        self._training = View(training, self._skip, data.smallest_crop if train.augment else None)
        self._validating = View(validating, self._skip)
        self._iterator: Any = None
        self._begun, self._step = -1, -1  # the steps that the iterator began at, and that it comes to next
        self._seconds: list[float] = []  # of waiting, once each process has sent its first batch
        self._told = 0  # how many of them the rows of epochs have told
        self.start_seconds = 0.0
        self.skipped: set[tuple[str, int]] = set()
        channels = dataset.image_shape[2]
        # one process looks at the sample: how JPEGs are decoded may differ in a bit from machine to machine
        found = self._mean_and_std() if team.is_first else (np.zeros(channels, np.float32),) * 2
        self._statistics = tuple(map(jax.device_put, team.from_first(found)))
        self._everywhere = replicas.place(self._statistics)
        self.validation = self._validation_batches

    @property
    def statistics(self) -> tuple[jax.Array, jax.Array]:
        mean, std = self._statistics
        return mean, std

    def order(self, epoch: int) -> jax.Array:
        """None: a step takes all of its images, as they come."""
        return self._replicas.place(jnp.zeros((1, 0), jnp.int32))

    def images(self, step: int) -> Images:
        """Those of a step, which are read ahead where the last step asked for was the one before."""
        begin = time.perf_counter()
        if step != self._step:
            self.close()
            self._begun = step
            batches = batches_from(step, self._images_in_order(), self.batch, self._epochs, self._part)
            self._iterator = iter(self._read(batches, self.workers, self._shared))
        batch = self._next()
        seconds = time.perf_counter() - begin
        if step - self._begun < max(1, self.workers):
            self.start_seconds += seconds
        else:
            self._seconds.append(seconds)
        self._step = step + 1
        return self._taken(batch, "training")

    def _next(self) -> Batch:
        try:
            return next(self._iterator)
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise DataError(
                "A process that reads images was ended from outside, as the system does where memory runs out. Go on "
                "with `approxtrain train --resume DIR`, with fewer of them: data.workers=N."
            ) from error

    def waited(self) -> dict[str, float]:
        """What the row of an epoch says of the reading: the time lost since it was asked for last."""
        first, self._told = self._told, len(self._seconds)
        return {"data_wait_seconds": sum(self._seconds[first:])}

    def figures(self) -> dict[str, Any]:
        """What a summary says of the reading."""
        waits = np.array(self._seconds)
        return {
            "data_workers": self.workers,
            "data_wait_share": float((waits > READY).mean()) if len(waits) else None,
            "data_wait_seconds": float(waits.sum()),
            "data_start_seconds": self.start_seconds,
        }

    def close(self) -> None:
        """Stop reading ahead, and the processes that do."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _images_in_order(self) -> grain.MapDataset:
        """The training images as each epoch takes them, with a random generator by the place in that order."""
        numbers = grain.MapDataset.range(len(self._training.reader.split)).seed(self._seed).shuffle()
        return numbers.random_map(self._training.random)

    def _validation_batches(self) -> Iterator[Images]:
        """All images to validate on, the last batch filled up; the label of what does not count is −1. One device
        computes this, and is given as many at a time as in a step."""
        numbers, size = grain.MapDataset.range(len(self._validating.reader.split)), self.batch // self._replicas.count
        padded = partial(grain.experimental.batch_and_pad, batch_size=size)
        batches = numbers.map(self._validating.plain).batch(size, batch_fn=padded)
        for batch in self._read(batches, 0, self._marked):
            yield self._taken(batch, "validation")

    def _mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each channel over a sample of the training images: exact, whatever reads them."""
        count = len(self._training.reader.split)
        numbers = grain.MapDataset.range(0, count, -(-count // SAMPLE))
        sums = sum(numbers.map(View(self._training.reader, self._skip).sums).to_iter_dataset(self._threads(32)))
        pixels, values, squares = np.asarray(sums, np.float64)
        mean = values / pixels
        return mean.astype(np.float32), np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6)).astype(np.float32)

    def _read(self, batches: grain.MapDataset, workers: int, place: Callable[[Batch], Batch]) -> grain.IterDataset:
        """The batches in order, as `place` puts them on devices: by that many processes, or, of 0, by threads of this
        one."""
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # else Grain fails outside of an absl program
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
        threads = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD) if workers else self._threads(_AHEAD)
        # By pipes, and not by memory that processes share: what is on its way when a run ends would be left behind.
        piped = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        read = grain.experimental.WithOptionsIterDataset(batches.to_iter_dataset(threads), piped)
        read = read.mp_prefetch(options, worker_init_fn=_begin_worker)
        ahead = partial(grain.experimental.ThreadPrefetchIterDataset, prefetch_buffer_size=_AHEAD)
        return ahead(ahead(read).map(place))

    def _shared(self, batch: Batch) -> Batch:
        """To train on: on each device its part."""
        return batch | self._replicas.share({name: batch[name] for name in ("pixels", "label")})

    def _marked(self, batch: Batch) -> Batch:
        """To validate on, on one device."""
        labels = np.where(batch["counts"] == 1, batch["label"], -1)
        return batch | jax.device_put({"pixels": batch["pixels"], "label": labels})

    def _threads(self, ahead: int) -> grain.ReadOptions:
        threads = max(1, self.workers)
        return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))

    def _taken(self, batch: Batch, split: str) -> Images:
        if self._skip:
            self.skipped |= {(split, number) for number in batch["skipped"].tolist() if number}
        mean, std = self._everywhere if split == "training" else self._statistics
        return Images(batch["pixels"], batch["label"], mean, std)


def batches_from(
    step: int, images: grain.MapDataset, size: int, epochs: int, part: tuple[int, int] = (0, 1)
) -> grain.MapDataset:
    """Of each batch of a run, from `step` on, the part that process `part[0]` of `part[1]` reads.

    Batches of `size` are taken from each epoch's order of `images`, and what is left over at its end is not used.
    """
    number, count = part
    whole = images[: len(images) // size * size]
    return whole.batch(size // count)[number::count].repeat(epochs)[step:]


def _begin_worker(number: int, count: int) -> None:
    """A worker leaves signals to the process that it works for, and ends with it, however that ends."""
    for number_of_signal in HANDLED:
        signal.signal(number_of_signal, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()  # returns at once where it ended before this worker began
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
