"""`shapes`: the embedded data set. One of ten outlines a picture, drawn by the program from a fixed seed.

A picture is a bright shape of any colour at a random place, size and angle on a darker ground, under specks
and noise. Colours and contrast are drawn alike for every class, so a linear model, which sees little but how
much is bright, stays under 40 % (a test says so); features have to be learnt to see outlines. Every shape
is its own mirror image up to a rotation, so that flips and crops keep the label.

The bytes are the same on every machine: random numbers are PCG64's raw words, and pixels come from + − × ÷
and √ alone, which IEEE 754 rounds in one way. Rotations are rational, (1−t²)/(1+t²) and 2t/(1+t²), because
libraries disagree on the last bit of a cosine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from approxtrain.data.raw_stream import RawStream

CLASSES = ("disc", "ring", "square", "frame", "triangle", "star", "plus", "bars", "crescent", "corner")
TRAIN, TEST = 10_000, 2_000
SIDE = 32
# `dataset.fingerprint` of what `draw()` returns
SHA256 = "26d724e6743c8a21603b6f02b82bf81c1219c0353ccc72153914ff717cf2e467"

_SEED = 1911
_CHUNK = 1_000  # pictures drawn together, so that a few MB of float32 stay in the cache
_SPECKS = 4
_NOISE = 45.0  # grey levels, the largest deviation

Field = np.ndarray  # float32, negative inside a shape, about the distance to its edge in units of its radius


def draw(train: int = TRAIN, test: int = TEST) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train images and labels, test images and labels: uint8 [n,32,32,3] and int32 [n], every class equally
    often."""
    return (*_split(train, 0), *_split(test, 1))


def _split(count: int, which: int) -> tuple[np.ndarray, np.ndarray]:
    labels = (np.arange(count) % len(CLASSES)).astype(np.int32)
    labels = labels[np.argsort(RawStream(_SEED, which).words(count), kind="stable")]
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        images[part] = _pictures(RawStream(_SEED, which, start + 1), labels[part])
    return images, labels


def _pictures(stream: RawStream, labels: np.ndarray) -> np.ndarray:
    count = len(labels)
    radius = stream.uniform(7.0, 12.0, count, 1, 1)
    x, y = _turned(stream, *_pixels(stream, radius, spread=5.0))
    cover = np.empty((count, SIDE, SIDE, 1), np.float32)
    for label, name in enumerate(CLASSES):
        of_class = labels == label
        cover[of_class] = _cover(_FIELDS[name](x[of_class], y[of_class]), radius[of_class])
    ground = stream.uniform(10, 110, count, 1, 1, 3)
    picture = ground + stream.uniform(40, 130, count, 1, 1, 3) * cover
    for _ in range(_SPECKS):
        size = stream.uniform(0.8, 2.2, count, 1, 1)
        speck = _cover(_disc(*_pixels(stream, size, spread=15.0)), size)
        picture += (stream.uniform(0, 255, count, 1, 1, 3) - picture) * speck
    noise = stream.bytes(count, SIDE, SIDE, 3).astype(np.float32) - np.float32(127.5)
    picture += noise * np.float32(_NOISE / 127.5)
    return (np.clip(picture, 0, 255) + np.float32(0.5)).astype(np.uint8)


def _pixels(stream: RawStream, radius: np.ndarray, spread: float) -> tuple[Field, Field]:
    """Every pixel's x and y seen from a centre within `spread` pixels of the middle, in units of `radius`
    [n,1,1]."""
    line = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    x, y = stream.uniform(-spread, spread, 2, len(radius), 1, 1)
    return (line - x) / radius, (line[:, None] - y) / radius


def _turned(stream: RawStream, x: Field, y: Field) -> tuple[Field, Field]:
    """Coordinates [n,32,32] in a frame turned by a random angle."""
    t = stream.uniform(-1, 1, len(x), 1, 1)  # −90° to 90°
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    cos = np.where(stream.uniform(0, 1, len(x), 1, 1) < 0.5, cos, -cos)  # and the other half of the circle
    return cos * x - sin * y, sin * x + cos * y


def _cover(field: Field, radius: np.ndarray) -> Field:
    """Share of each pixel [n,32,32,1] that a shape covers: 1 inside, 0 outside, a ramp one pixel wide at the
    edge."""
    return np.clip(np.float32(0.5) - field * radius, 0, 1)[..., None]


def _triangle(x: Field, y: Field) -> Field:
    return np.maximum(-y, np.float32(0.8660254) * np.abs(x) + np.float32(0.5) * y) - np.float32(0.5)


def _square(x: Field, y: Field) -> Field:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.78)


def _disc(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y) - np.float32(0.88)


def _plus(x: Field, y: Field) -> Field:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - np.float32(0.26), np.maximum(x, y) - np.float32(0.95))


def _bars(x: Field, y: Field) -> Field:
    return np.maximum(np.abs(np.abs(y) - np.float32(0.52)) - np.float32(0.24), np.abs(x) - np.float32(0.85))


_FIELDS: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "ring": lambda x, y: np.abs(_disc(x, y) + np.float32(0.2)) - np.float32(0.2),
    "square": _square,
    "frame": lambda x, y: np.abs(_square(x, y) + np.float32(0.19)) - np.float32(0.19),
    "triangle": _triangle,
    "star": lambda x, y: np.minimum(_triangle(x, y), _triangle(x, -y)),
    "plus": _plus,
    "bars": _bars,
    "crescent": lambda x, y: np.maximum(_disc(x, y), -_disc(x, y - np.float32(0.5)) - np.float32(0.12)),
    "corner": lambda x, y: np.maximum(_square(x, y), np.minimum(x, y) + np.float32(0.25)),
}
