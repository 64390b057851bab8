"""Random numbers that are the same on every machine and for every version of NumPy.

NumPy promises not to change the words of `PCG64.random_raw`; the distributions of `Generator` that are built
on them may change ([NEP 19](https://numpy.org/neps/nep-0019-rng-policy.html)).
"""

from __future__ import annotations

import math

import numpy as np


class RawStream:
    """Draws from PCG64 seeded with a tuple of integers; each draw goes on where the last one stopped."""

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.PCG64(list(seed))

    def words(self, count: int) -> np.ndarray:
        """`count` uniform 64-bit words, little-endian."""
        return np.asarray(self._generator.random_raw(count), dtype="<u8")

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """float32 in [low, high), from the top 24 bits of one word each."""
        unit = (self.words(math.prod(shape)) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return (np.float32(low) + np.float32(high - low) * unit).reshape(shape)

    def bytes(self, *shape: int) -> np.ndarray:
        """Uniform uint8, eight from one word."""
        count = math.prod(shape)
        return self.words(-(-count // 8)).view(np.uint8)[:count].reshape(shape)
