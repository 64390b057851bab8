"""One call of a network, in training or in use, however its author chose to say which."""

from __future__ import annotations

import inspect
from typing import Any

import jax
from flax import nnx

TRAINING = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
"""Arguments of a network's call that say which, and what they are in training."""


def forward(model: nnx.Module, x: jax.Array, *, training: bool, key: jax.Array | None = None) -> jax.Array:
    """`model(x)` with the modes of batch norm and dropout set, as `model.train()` and `model.eval()` set them.

    An argument of the call that says the same is given as well: `__call__(self, x, train)`. `key`: where the model's
    streams of random numbers begin, dropout's say; as an argument where the call has one named `rngs`.
    """
    model.train() if training else model.eval()
    known = inspect.signature(type(model).__call__).parameters
    arguments: dict[str, Any] = {name: TRAINING[name] == training for name in known.keys() & TRAINING.keys()}
    key = jax.random.key(0) if key is None else key
    _reseed(model, key)
    if "rngs" in known:
        arguments["rngs"] = key if "Array" in str(known["rngs"].annotation) else nnx.Rngs(key)
    return model(x, **arguments)  # type: ignore[operator]


def _reseed(model: nnx.Module, key: jax.Array) -> None:
    streams = [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)]
    for number, stream in enumerate(streams):
        stream.key[...], stream.count[...] = jax.random.fold_in(key, number), 0
