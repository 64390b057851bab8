"""The configuration of a run: `toml` reads it, with every problem of it in one error; `sections` says what it may say.

    load("cnn2-approx", ["train.epochs=3", "schedule.method=zero"])

Imports no jax.
"""

from approxtrain.config.sections import Config, DataConfig, ModelConfig, OptimizerConfig, ParallelConfig, TrainConfig
from approxtrain.config.toml import (
    DEFAULT_PRESET,
    dump,
    flat,
    is_override,
    load,
    plain,
    preset_text,
    presets,
    refuse_changes,
    split,
    steps_per_epoch,
    with_train,
)

__all__ = [
    "DEFAULT_PRESET",
    "Config",
    "DataConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "TrainConfig",
    "dump",
    "flat",
    "is_override",
    "load",
    "plain",
    "preset_text",
    "presets",
    "refuse_changes",
    "split",
    "steps_per_epoch",
    "with_train",
]
