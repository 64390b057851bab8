"""A short run in the place of a long one: the same course of the learning rate, in fewer epochs."""

from __future__ import annotations

from typing import Any

from approxtrain.config import Config, with_train


def shortened(config: Config, epochs: int) -> Config:
    """`config` in no more than so many epochs, whose learning rate at each share of the run is that of the whole one.

    Warm-up, a decay by the epoch, and the epochs in which weights stop training are drawn together; all else depends on
    the share of the run alone.
    """
    whole = config.train.epochs
    if epochs >= whole:
        return config
    optimizer: dict[str, Any] = {"warmup": config.optimizer.warmup * epochs / whole}
    for table, key in (("dropback", "freeze"), ("prunetrain", "every")):
        chosen = getattr(config.optimizer, table)
        if chosen and isinstance(epoch := getattr(chosen, key), int):
            optimizer[table] = chosen.model_copy(update={key: f"{min(100 * epoch / whole, 100):.6f}%"})
    if config.optimizer.rate == "exponential":
        optimizer["decay"] = config.optimizer.decay ** (whole / epochs)
    short = with_train(config, epochs=epochs)
    return short.model_copy(update={"optimizer": config.optimizer.model_copy(update=optimizer)})
