"""What a configuration may say: one frozen object, a section for each table. Imports no jax."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from approxtrain import models
from approxtrain.config.optimizer import OptimizerConfig
from approxtrain.config.pruning import refuse_average
from approxtrain.config.section import Section
from approxtrain.models.target import FORM, PATTERN
from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.ranges import Count


def _is_target(text: str) -> str:
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} must be {FORM}")
    return text


def _absolute_path(folder: str) -> Path:
    """A `~` stays where there is no such user, as in a shell."""
    return Path(os.path.expanduser(folder)).absolute()


Target = Annotated[str, AfterValidator(_is_target)]

SEEDS = 2**32


class ModelConfig(Section):
    target: Target | None = None
    """A network of your own: PACKAGE.MODULE:CLASS, a Flax NNX module or a function that returns one."""
    name: str
    """One of `approxtrain ls models`; beside `target` what the run calls the network, by default the target's class."""
    arguments: dict[str, Any] = Field(default={})
    """What the class is called with, besides what it takes of the images and the precision."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        if isinstance(table, dict) and isinstance(table.get("target"), str):
            return {"name": table["target"].rpartition(":")[2], **table}
        return table

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str, info: ValidationInfo) -> str:
        own = info.data.get("target", "not a target")  # one that is none is missing here, and reported already
        return name if own else models.get(name).name  # its ValueError names what there is

    def network(self) -> models.Model:
        """What is trained, for the images that it is made for: `.on(image_shape, classes)` has it for others."""
        if self.target:
            return models.Model(self.name, "", self.target, self.arguments)
        model = models.get(self.name)
        return replace(model, arguments={**model.arguments, **self.arguments}) if self.arguments else model


class DataConfig(Section):
    name: str = Field(min_length=1)
    """"shapes" (drawn by the program), "cifar10" or "cifar100" (the official bytes only), or your own for other images;
    beside `dir` or `target` by default the name of the folder or of the class."""
    dir: str | None = None
    """Folder or archive of the images; kept as an absolute path, so that a run resumes from any folder."""
    target: Target | None = None
    """A data set of your own: PACKAGE.MODULE:CLASS, or a function that returns one."""
    arguments: dict[str, Any] = Field(default={})
    """What the target is called with."""
    holdout: int = Field(default=0, ge=0)
    """Training images set aside to validate on; 0 validates on what the data set has for that, else on its test images,
    as the paper does."""
    limit: Count | None = None
    """For a trial: no more than this many images to train on, and as many to validate on."""
    image_size: Count | None = None
    """Rows and columns that each image is brought to: its shorter side is resized, and the middle is cut out."""
    channels: Literal[1, 3] | None = None
    """Of image files: 1 for shades of gray, 3 for colours; unset: as a sample of them is."""
    broken: Literal["error", "skip"] = "error"
    """What becomes of an image that cannot be read; what is skipped is counted."""
    memory: float = Field(default=1.0, ge=0)
    """GiB of decoded images up to which a set is held on the device; a larger one is streamed."""
    stream: bool | None = None
    """Whether images are read while the network trains; unset: where they exceed `memory`."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that decode and cut what is streamed, for each that trains; unset: up to 4, one a core, and none for
    arrays in memory."""
    smallest_crop: float = Field(default=0.08, gt=0, le=1)
    """Least share of an image's area in a random crop of what is streamed."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        if isinstance(table, dict) and isinstance(target := table.get("target"), str):
            return {"name": target.rpartition(":")[2], **table}
        if isinstance(table, dict) and isinstance(folder := table.get("dir"), str):
            name = _absolute_path(folder).name
            return {"name": re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"(\.tar)?\.(npz|gz|tgz)$", "", name)), **table}
        return table

    @field_validator("dir")
    @classmethod
    def _absolute(cls, folder: str | None) -> str | None:
        if folder is None:
            return None
        path = str(_absolute_path(folder))
        try:
            path.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path!r} is no text in UTF-8, and the config.toml of a run is: rename it") from None
        return path

    @model_validator(mode="after")
    def _from_one_place(self) -> DataConfig:
        if self.target and self.dir:
            raise ValueError("`target` and `dir` are two sources of images: give one (a path goes into `arguments`).")
        return self


class TrainConfig(Section):
    epochs: Count
    """Passes over the training images."""
    batch_size: Count = 128
    """Images a step; those left over at the end of an epoch's order are not used in it."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """With the step it determines every draw: initial weights, order, augmentation, random gradients."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; parameters and optimiser are float32 either way."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread over all classes."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Validate and export an exponential moving average of the weights, with this share kept in each step; unset: the
    weights themselves."""
    augment: bool = True
    """Random crop of the image padded by 4 pixels, and random flip; of what is streamed, a random part of the image,
    resized, and random flip."""
    validate_every: Count = 10
    """Epochs between validations; the last epoch is validated as well."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints, besides those at the end of an epoch."""
    chunk: Count | None = None
    """Steps in one call of the compiled program; unset: decided by the time of the first epoch's steps."""
    probe_every: Count | None = None
    """Steps between looks at how good the approximated weight gradients are; unset: no probes."""
    check: Literal["finite"] | None = None
    """Look in each step at gradients, batch norm's statistics and weights besides the loss, so that a run that diverges
    names the layer; unset: at the loss alone."""
    verify_every: Count | None = None
    """Compute every n-th step a second time and compare the bits, to find faults of the machine; unset: never."""
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], Field(strict=False)] = ("tensorboard",)
    """Where figures are shown while the network trains, besides the run's own rows; none: []."""
    seeds: int = Field(default=1, ge=1, le=1000)
    """Seeds that one run trains at once, in one program: `seed`, `seed` + 1, …"""
    seeds_by: Literal["map", "vmap"] | None = None
    """One seed after the other, or each operation for all; unset: "map" on a CPU, "vmap" on a GPU."""

    @field_validator("seeds")
    @classmethod
    def _all_fit(cls, seeds: int, info: ValidationInfo) -> int:
        first = info.data.get("seed", 0)  # one that is none is missing here, and reported already
        if seeds > SEEDS - first:
            raise ValueError(f"the last seed, `seed` (={first}) + {seeds - 1}, must be less than {SEEDS}")
        return seeds

    @property
    def all_seeds(self) -> range:
        return range(self.seed, self.seed + self.seeds)


class ParallelConfig(Section):
    """Several devices of one machine, each with its part of every batch (docs/parallel.md)."""

    devices: Count = 1
    """Devices of this machine that share each batch of `train.batch_size` images, which they must divide."""
    batch_norm: Literal["synchronised", "replica"] = "synchronised"
    """Whose images batch norm normalises by: those of the whole batch, or of each device by itself."""
    mean: Literal["contributors", "paper"] = "contributors"
    """What a weight gradient that only some devices compute is divided by: their number, or, as in the paper, that of
    all devices, which makes the step shorter."""
    gradients: Literal["float32", "bfloat16"] = "float32"
    """The type in which gradients are sent and added: bfloat16 is half as many bytes, of about three digits."""


class Config(Section):
    """Everything that determines a run, apart from the machine."""

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig(name="full")
    parallel: ParallelConfig = ParallelConfig()

    @field_validator("optimizer")
    @classmethod
    def _is_not_averaged(cls, optimizer: OptimizerConfig, info: ValidationInfo) -> OptimizerConfig:
        for key in ("dropback", "prunetrain"):
            if getattr(optimizer, key) and (train := info.data.get("train")):
                refuse_average(key, train.average)
        return optimizer

    @field_validator("parallel")
    @classmethod
    def _can_be_shared(cls, parallel: ParallelConfig, info: ValidationInfo) -> ParallelConfig:
        train, schedule = info.data.get("train"), info.data.get("schedule")  # what is wrong is reported already
        if (devices := parallel.devices) == 1 or train is None or schedule is None:
            return parallel
        if train.batch_size % devices:
            lower = train.batch_size - train.batch_size % devices
            sizes = f"{lower} or {lower + devices}" if lower else str(devices)
            raise ValueError(
                f"{devices} devices cannot have equal parts of a batch of {train.batch_size} images: "
                f"train.batch_size={sizes}"
            )
        part = train.batch_size // devices
        for share in (each.share for each in schedule.image_shares):
            if abs(part * share - round(part * share)) > 1e-6:
                raise ValueError(
                    f"of {part} images, its part of a batch, a device cannot take a share of {share:g} (schedule."
                    "image_shares): choose one that makes a whole number"
                )
        if train.seeds > 1:
            raise ValueError(f"{devices} devices train one seed at a time: train.seeds=1, and a run for each seed")
        if schedule.dispatch == "switch":
            raise ValueError(
                f'on {devices} devices each column of a schedule is a program: schedule.dispatch="host" or "auto"'
            )
        return parallel
