"""Different methods for one convolution on the replicas of a batch, in the same step.

    replica      0       1       2       3
    method       full    zero    full    approx       ByReplica(((full, 2), (zero, 1), (approx, 1)))
    place        0       1       0       2            which of the members a replica runs: an operand

What is compiled is the set of members: a conditional around the weight gradient of this layer, and nothing else. Who
runs what is an operand of the program, so that a choice that rotates is one program. Nothing may be sent from inside
of the conditional, for the other replicas are not there: `total` gives one's own sums in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class ByReplica(Method):
    """dW, and dx where a member approximates it, of one's own member. What is given as `key` is (place, key): int32 and
    the key of the members that draw, or None."""

    members: tuple[tuple[Method, int], ...] = ()
    """Each method that some replica runs, and how many do."""

    name = "by-replica"
    summary = "other methods on other replicas"
    needs = frozenset()

    def __post_init__(self) -> None:
        if len({method for method, _ in self.members}) < 2 or any(count < 1 for _, count in self.members):
            raise ValueError(f"`members` (={self.members}) must be two methods or more, each with how many run it.")
        methods = [method for method, _ in self.members]
        of_class = {
            "needs": frozenset().union(*(method.needs for method in methods)),
            "updates_weight": any(method.updates_weight for method in methods),
            "exact_dgrad": all(method.exact_dgrad for method in methods),
        }
        for name, value in of_class.items():
            object.__setattr__(self, name, value)

    @property
    def replicas(self) -> int:
        return sum(count for _, count in self.members)

    @property
    def contributors(self) -> int:
        """Replicas whose member gives a gradient at all."""
        return sum(count for method, count in self.members if method.gives_gradient)

    @property
    def known_everywhere(self) -> bool:
        return not self.gives_gradient

    @property
    def label(self) -> str:
        return ", ".join(f"{method.label} on {count}" for method, count in self.members)

    def flops(self, shape):
        return self._mean([method.flops(shape) for method, _ in self.members])

    def dgrad_flops(self, shape):
        return self._mean([method.dgrad_flops(shape) for method, _ in self.members])

    def bytes(self, shape, itemsize):
        return self._mean([method.bytes(shape, itemsize) for method, _ in self.members])

    def _mean(self, values: list[float]) -> float:
        """Over the replicas, of a number of each member."""
        numbers = zip(values, self.members, strict=True)
        return sum(value * count for value, (_, count) in numbers) / self.replicas

    def keep(self, x: Any, *, shape: Any, key: Any) -> Any:
        return tuple(method.keep(x, shape=shape, key=key[1]) for method, _ in self.members)

    def gradients(self, kept, w, dy, *, shape, key):
        from approxtrain_kernels import dense

        if self.exact_dgrad:
            return dense.dgrad(dy, w, shape), self.estimate(kept, dy, shape=shape, key=key)
        members = [partial(_gradients, method, number, shape) for number, (method, _) in enumerate(self.members)]
        return _by_place(key, members, kept, w, dy)

    def estimate(self, kept, dy, /, *, shape, key):
        members = [partial(_estimate, method, number, shape) for number, (method, _) in enumerate(self.members)]
        return _by_place(key, members, kept, dy)


def _by_place(given, members, *operands):
    from jax import lax

    from approxtrain_kernels.replicas import apart

    place, key = given
    with apart():
        return lax.switch(place, [partial(member, key) for member in members], *operands)


def _gradients(method, number, shape, key, kept, w, dy):
    import jax.numpy as jnp

    dx, dw = method.gradients(kept[number], w, dy, shape=shape, key=key)
    return dx.astype(jnp.float32), dw.astype(jnp.float32)


def _estimate(method, number, shape, key, kept, dy):
    import jax.numpy as jnp

    return method.estimate(kept[number], dy, shape=shape, key=key).astype(jnp.float32)
