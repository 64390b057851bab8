"""What a run trains, on what and how often: all that is known of it before its state is made. Importing it imports no
jax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from approxtrain import data
from approxtrain.config import Config, steps_per_epoch
from approxtrain.data import Dataset, ImageSet
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.models.channels import channels_of
from approxtrain.schedule import Schedule
from approxtrain.schedule.seen import windows
from approxtrain.schedule.stamps import Calendar, resolve
from approxtrain_kernels.by_replica import ByReplica


@dataclass(frozen=True)
class Workload:
    """A configuration with the network, the images and the schedule that it names."""

    config: Config
    dataset: ImageSet
    model: Model
    schedule: Schedule
    steps_per_epoch: int

    @classmethod
    def of(cls, config: Config, dataset: Dataset | None = None) -> Self:
        """Looks for the images unless they are given. ConfigError and DataError name all that can be wrong."""
        if (warmup := config.optimizer.warmup) > config.train.epochs:
            raise ConfigError(
                f"`optimizer.warmup` (={warmup:g} epochs) is longer than the run "
                f"(`train.epochs`={config.train.epochs}), so that the learning rate would never be reached: "
                "shorten the warm-up, or train longer."
            )
        images = data.load(config.data, dataset)
        if images.streamed and config.train.seeds > 1:
            raise ConfigError(
                f"`train.seeds` (={config.train.seeds}) are trained at once on images in memory, and those of "
                f"`{images.name}` are streamed, in the order of one seed: run the seeds one by one, or say "
                "data.stream=false where the memory holds them all."
            )
        model = config.model.network().on(images.image_shape, len(images.class_names))
        model.check(config.train.precision)
        if config.optimizer.prunetrain and not channels_of(model.layers, model.classes):
            raise ConfigError(
                f"`optimizer.prunetrain` prunes channels between convolutions, and {model.target} has none that a "
                "schedule can reach: leave it out."
            )
        steps = steps_per_epoch(config, images)
        replicas = config.parallel.devices
        schedule = Schedule.from_config(config.schedule, model.layers, steps, config.train.epochs, replicas)
        refuse_what_devices_that_differ_cannot_do(config, schedule, steps * config.train.epochs)
        for seen in schedule.seen:
            model.layers_at(seen.size)  # ConfigError where the network does not take such images
        if schedule.bypass and config.optimizer.dropback:
            raise ConfigError(
                "`optimizer.dropback`: it keeps the weights that have moved furthest, and those of a block that comes "
                "in later (`schedule.bypass`) have not moved: leave out one of the two."
            )
        if schedule.bypass:
            from approxtrain.models.bypass import refuse_unless_shortcuts

            refuse_unless_shortcuts(model, [block for block, _ in schedule.bypass])
        return cls(config, images, model, schedule, steps)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.config.train.epochs

    def warnings(self, dispatch: str) -> Iterator[str]:
        """What a user should know before the run begins, in words."""
        yield from self.without_effect(dispatch)
        yield from self.not_validated()
        yield from self.left_over()
        if skipped := self.dataset.skipped:
            count = f"{len(skipped)} broken images are" if len(skipped) > 1 else "1 broken image is"
            yield f"{count} left out: {', '.join(skipped[:3])}{' …' if len(skipped) > 3 else ''}"

    def left_over(self) -> Iterator[str]:
        """That an epoch leaves out more than a tenth of the images, in words; nothing for a trial on a few."""
        images, batch = len(self.dataset.train), self.config.train.batch_size
        if (rest := images % batch) > images / 10 and not self.config.data.limit:
            parts = -(-images // batch)
            yield (
                f"train.batch_size={batch}: an epoch takes {images - rest} of the {images} training images, others "
                f"each time. With train.batch_size={images // parts} it takes {images // parts * parts}."
            )

    def without_effect(self, dispatch: str) -> list[str]:
        """What the configuration asks for and this run never does, in words.

        `dispatch`: "switch", "host", or "auto" where the device is not known yet.
        """
        return [*self._late_rules(), *self._late_pruning(), *self._no_chunks(dispatch), *self._of_devices()]

    def not_validated(self) -> Iterator[str]:
        """The classes without an image to validate on, in words; nothing for a trial on a few images, or where finding
        out would read all of them."""
        labels = getattr(self.dataset.validation, "labels", None)
        if labels is None or self.config.data.limit:
            return
        seen = set(np.asarray(labels).tolist())
        lacking = [repr(name) for number, name in enumerate(self.dataset.class_names) if number not in seen]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            yield f"No image to validate on is of the class {', '.join(lacking[:3])}{more}: accuracies leave it out."

    def _late_rules(self) -> Iterator[str]:
        schedule, epochs = self.config.schedule, self.config.train.epochs
        stamps, _ = resolve(schedule, self.model.layers, self.steps_per_epoch, epochs, self.config.parallel.devices)
        for stamp in stamps:
            if schedule.rules and (first := stamp.next_use(stamp.begin)) >= self.total_steps:
                yield f"{stamp.where} is never used: its first step would be {first}, of {self.total_steps} from 0."
        parts, _ = windows(schedule, Calendar(self.steps_per_epoch, epochs))
        late = [("image_sizes", "images of {:g} pixels: that", window) for window in parts.sizes]
        late += [("image_shares", "{:g} of each batch: that", window) for window in parts.shares]
        for key, what, window in late:
            if window.begin >= self.total_steps:
                yield (
                    f"schedule.{key}: {what.format(window.value)} is never used: the first step would be "
                    f"{window.begin}, of {self.total_steps} from 0."
                )
        if never := [block for block, enters in self.schedule.bypass if enters >= self.total_steps]:
            yield f"schedule.bypass: {', '.join(never)} never comes in: the run has {self.total_steps} steps."
        for window in self.schedule.local.windows:
            if window.begin >= self.total_steps:
                yield f"schedule.local is never used from step {window.begin} on: the run has {self.total_steps} steps."
        if isinstance(schedule.until_epoch, int) and schedule.until_epoch > epochs:
            yield f"schedule.until_epoch={schedule.until_epoch} is never reached: the run has {epochs} epochs."

    def _late_pruning(self) -> Iterator[str]:
        table, epochs = self.config.optimizer, self.config.train.epochs
        freeze, every = table.dropback and table.dropback.freeze, table.prunetrain and table.prunetrain.every
        if isinstance(freeze, int) and freeze >= epochs:
            yield f"optimizer.dropback.freeze={freeze} freezes nothing: the run has {epochs} epochs."
        if isinstance(every, int) and every > epochs:
            yield f"optimizer.prunetrain.every={every} prunes nothing: the run has {epochs} epochs."

    def _of_devices(self) -> Iterator[str]:
        parallel = self.config.parallel
        if parallel.mean == "paper" and self.schedule.replicas == 1:
            yield "parallel.mean=paper has no effect: no rule is for some of the devices (`replicas`)."
        if parallel.gradients != "float32" and parallel.devices == 1:
            yield f"parallel.gradients={parallel.gradients} has no effect: one device sends nothing."

    def _no_chunks(self, dispatch: str) -> Iterator[str]:
        chunk = self.config.train.chunk or 1
        reasons = {
            "images are streamed, a batch a step": self.dataset.streamed,
            "under host dispatch, steps of different columns are different programs": dispatch == "host"
            and len(self.schedule.columns) > 1,
            "with `schedule.local` the steps before a mean are another program": len(self.schedule.local.kinds) > 1,
            f"an epoch has {self.steps_per_epoch} steps": self.steps_per_epoch < chunk,
        }
        if chunk > 1 and (reason := next((reason for reason, holds in reasons.items() if holds), None)):
            yield f"train.chunk={chunk} has no effect: {reason}."

    @property
    def data(self) -> dict[str, str]:
        """Name and SHA-256 of the images, and which of them validate."""
        return self.dataset.identity | {"validation": self.dataset.validated_on}


def refuse_what_devices_that_differ_cannot_do(config: Config, schedule: Schedule, total_steps: int) -> None:
    """ConfigError where a run looks at one device and the others differ, or wants of the mean of copies what each of
    them has."""
    train, optimizer, local = config.train, config.optimizer, config.schedule.local
    copies = "copies of their own (`schedule.local`)"
    looks = "looks at one device, and the others have"
    problems = []
    mixed = [any(isinstance(method, ByReplica) for method in column) for column in schedule.columns]
    for window in schedule.local.windows:
        end = total_steps if window.stop is None else min(window.stop, total_steps)
        if window.begin < end and schedule.column_visits(window.begin, end)[mixed].any():
            problems.append(
                f"`schedule.local`: from step {window.begin} on devices have copies of their own, and rules with "
                "`replicas` are for the mean of their gradients, which there is none of then"
            )
    if train.probe_every and (schedule.replicas > 1 or local):
        where = copies if local else "other methods (`replicas` of a rule)"
        problems.append(f"`train.probe_every` (={train.probe_every}): a probe {looks} {where}")
    if train.verify_every and local:
        problems.append(f"`train.verify_every` (={train.verify_every}): it {looks} {copies}")
    problems += [
        f"`optimizer.{key}`: devices that have {copies} choose other weights, and their mean is none of these choices"
        for key in ("dropback", "prunetrain")
        if local and getattr(optimizer, key)
    ]
    if problems:
        raise ConfigError([f"{problem}: leave out one of the two." for problem in problems])
