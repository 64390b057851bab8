"""How fast streamed images come, and whether the steps of a training run wait for them:

    python tools/stream_measure.py --json FILE [--workers 0 1 2] [--images 2000] [--model resnet18] [--size 96]

Makes JPEGs of 400×300 in a folder of its own. Of each number of workers there is a row: images a second of the reader
alone, with nothing that trains beside it; of training; and the share of steps whose batch came too late.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from approxtrain import data, disk
from approxtrain.config import Config
from approxtrain.run.environment import this_environment
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.feed import Stream
from approxtrain.training.loop import Run

CLASSES, BATCH, EPOCHS = 10, 64, 2


def make_images(folder: Path, count: int) -> None:
    """JPEGs that take as long to decode as photographs: smooth, with some detail, about 30 kB."""
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = draw.integers(0, 256, (20, 15, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(pixels + draw.integers(-12, 13, pixels.shape), 0, 255).astype(np.uint8)
        place = folder / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.jpg", quality=90)


def configuration(options: argparse.Namespace, folder: Path, workers: int) -> Config:
    return Config.model_validate(
        {
            "model": {"name": options.model},
            "data": {"dir": str(folder), "holdout": BATCH, "image_size": options.size, "stream": True}
            | {"workers": workers},
            "train": {"epochs": EPOCHS, "batch_size": BATCH, "validate_every": EPOCHS},
        }
    )


def reader_alone(config: Config) -> float:
    """Images a second, once every process has begun and what was read ahead is taken."""
    images = data.load(config.data)
    feed, steps = Stream(images, config), EPOCHS * (len(images.train) // BATCH)
    first, begin = 4 * max(1, feed.workers), 0.0
    for step in range(steps):
        if step == first:
            begin = time.perf_counter()
        feed.images(step).pixels.block_until_ready()
    seconds = time.perf_counter() - begin
    feed.close()
    return (steps - first) * BATCH / seconds


def measure(options: argparse.Namespace, folder: Path, workers: int) -> dict[str, Any]:
    config = configuration(options, folder / "images", workers)
    alone = reader_alone(config)
    with RunFolder.create(folder / f"run{workers}") as run:
        summary = Run(config, run, Listener()).train()
    kept = ("images_per_second", "data_wait_share", "data_wait_seconds", "data_start_seconds", "steps")
    return {"workers": workers, "reader_images_per_second": alone} | {name: summary[name] for name in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder) / "images", options.images)
        for workers in options.workers:
            rows.append(measure(options, Path(folder), workers))
            print(rows[-1], flush=True)
            what = {name: getattr(options, name) for name in ("images", "model", "size")}
            disk.write_json(options.json, {"environment": this_environment(), **what, "batch": BATCH, "rows": rows})


if __name__ == "__main__":
    main()
