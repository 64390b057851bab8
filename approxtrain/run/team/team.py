"""What the processes of a run agree on. Every process has to ask the same things in the same order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process is number `number`, from 0, of `count`. Alone it agrees with itself and asks nobody."""

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes the run's folder, and decides what a clock or a file decides."""
        return self.number == 0

    def agreed(self, value: T) -> T:
        """The first process' `value`, which JSON can hold; what the others give does not count."""
        if self.count == 1:
            return value
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        length = int(_of_first(np.array(len(text), np.int32)))
        return json.loads(_of_first(np.resize(text, length)).tobytes())

    def from_first(self, tree: T) -> T:
        """The first process' arrays, bit for bit; the others give arrays of the same shapes and types."""
        if self.count == 1:
            return tree
        import jax

        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.asarray(leaf) for leaf in jax.device_get(leaves)]
        # as bytes, because the numbers themselves are sent as a sum with zeros, which makes 0 of −0
        sent = [_of_first(array.reshape(-1).view(np.uint8)) for array in arrays]
        back = [bits.view(array.dtype).reshape(array.shape) for bits, array in zip(sent, arrays, strict=True)]
        return jax.tree.unflatten(structure, back)

    def stops(self, call: int) -> bool:
        """Whether all stop here: one has been sent SIGTERM, and no process has come past this call.

        Calls are numbered from 1, without gaps, by a team of several, whose processes leave SIGTERM to jax.
        """
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(call)


ALONE = Team()


def _of_first(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))
