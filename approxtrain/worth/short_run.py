"""A short run in the place of a long one: the same course of the learning rate, in fewer epochs."""

from __future__ import annotations

from approxtrain.config import Config, with_train


def shortened(config: Config, epochs: int) -> Config:
    """`config` in no more than so many epochs, whose learning rate at each share of the run is that of the whole one.

    Warm-up and a decay by the epoch are drawn together; the other courses depend on the share of the run alone.
    """
    whole = config.train.epochs
    if epochs >= whole:
        return config
    optimizer = {"warmup": config.optimizer.warmup * epochs / whole}
    if config.optimizer.rate == "exponential":
        optimizer["decay"] = config.optimizer.decay ** (whole / epochs)
    short = with_train(config, epochs=epochs)
    return short.model_copy(update={"optimizer": config.optimizer.model_copy(update=optimizer)})
