"""The training loop: epochs of steps, rows of metrics, validation, checkpoints. Prints nothing; a `Listener` is told.

Everything that happens is a pure function of configuration, data set and step, so a resumed run needs only the
arrays of its last checkpoint to go on bit for bit as if it had never stopped.
"""

from __future__ import annotations

import json
import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from approxtrain import config as configuration
from approxtrain import data, disk, models
from approxtrain.config import Config
from approxtrain.errors import DataError, DivergedError, InterruptedRun
from approxtrain.run import checkpoint, curves, marks, record
from approxtrain.run.folder import RunFolder
from approxtrain.run.resume import refuse_changes
from approxtrain.run.summary import outcome, over_seeds
from approxtrain.schedule import Schedule
from approxtrain.training import autotune
from approxtrain.training.batch import Images, Keys, channel_statistics, epoch_order
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.evaluate import Evaluator
from approxtrain.training.events import Listener, Start
from approxtrain.training.pending import InFlight, spread
from approxtrain.training.probe import Probe
from approxtrain.training.seeds import member
from approxtrain.training.signals import Interruption
from approxtrain.training.step import TrainState, set_up

_order = jax.jit(epoch_order, static_argnames="size")


class Run:
    """One training run in its folder. Build it, then call `train`."""

    def __init__(
        self, config: Config, folder: RunFolder, listener: Listener, dataset: data.Dataset | None = None
    ) -> None:
        self.config, self.folder, self.listener = config, folder, listener
        self.model = models.get(config.model.name)
        self.steps_per_epoch = configuration.steps_per_epoch(config)
        self.total_steps = self.steps_per_epoch * config.train.epochs
        self.schedule = Schedule.from_config(config.schedule, self.model.layers, self.steps_per_epoch)
        self.dataset = dataset or data.load(config.data)
        mean, std = channel_statistics(self.dataset.train_images)
        put = jax.device_put
        self.images = Images(*map(put, (self.dataset.train_images, self.dataset.train_labels, mean, std)))
        validation = Images(*map(put, (self.dataset.test_images, self.dataset.test_labels, mean, std)))
        self.seeds = config.train.all_seeds
        self.keys = Keys.of_all(self.seeds) if len(self.seeds) > 1 else Keys.of(config.train.seed)
        self.task, self.initial = set_up(self.model, config, self.steps_per_epoch, self.keys.init)
        self.evaluate = Evaluator(self.task, validation)
        self.dispatch = Dispatch(
            self.task,
            self.schedule,
            self.keys,
            batch_size=config.train.batch_size,
            augment=config.train.augment,
            mode=config.schedule.dispatch,
            seeds_by="map" if len(self.seeds) > 1 else None,
            listener=listener,
        )
        every = config.train.probe_every
        self.probe = None if every is None else Probe(self.dispatch, every, self.seeds, listener)
        self.environment = record.environment()
        self.step_seconds: list[float] = []
        self._warned = False

    def train(self) -> dict[str, Any]:
        """Train from the newest checkpoint in the folder, or from the start, to the end. Returns the summary.

        Raises DivergedError, InterruptedRun, DiskError, CheckpointError; what was saved before stays.
        """
        state = self._restore()
        disk.write(self.folder.config, configuration.dump(self.config))
        start = int(state.step)
        self.listener.begin(self._start(start))
        if start == self.total_steps and (done := self.folder.path / record.SUMMARY).is_file():
            summary = json.loads(done.read_text("utf-8"))
            if summary["steps"] == start:  # else it is that of a shorter run, which this one went on from
                return summary  # nothing is left to do, and nothing to measure anew
        about = self.dataset.identity | {"validation": self.dataset.validation}
        trajectory = marks.begin(self.folder.path, start, about, self.environment)
        with record.Record(self.folder.path, start) as rows, Interruption() as interruption:
            self._settle(state, interruption)
            try:
                for epoch in range(start // self.steps_per_epoch + 1, self.config.train.epochs + 1):
                    state = self._epoch(epoch, state, rows, interruption)
            except DivergedError as error:
                marks.diverge(self.folder.path, error)
                raise
        return self._summary(start, trajectory)

    def _start(self, step: int) -> Start:
        visits = self.schedule.visits(0, self.total_steps).sum(0)
        return Start(
            model=self.model.name,
            layers=len(self.model.layers),
            data=self.dataset.name,
            train_images=len(self.dataset.train_labels),
            validation_images=len(self.dataset.test_labels),
            validation=self.dataset.validation,
            schedule=self.config.schedule.title,
            columns=len(self.schedule.columns),
            shares=dict(zip((cell.label for cell in self.schedule.cells), visits / visits.sum(), strict=True)),
            seeds=self.seeds,
            batch_size=self.config.train.batch_size,
            epochs=self.config.train.epochs,
            total_steps=self.total_steps,
            step=step,
        )

    def _restore(self) -> TrainState:
        checkpoint.clean(self.folder.checkpoints)
        initial = self.initial
        del self.initial  # its arrays are given up to the first step
        found = checkpoint.load_latest(self.folder.checkpoints, initial)
        if found is None:
            return initial
        state, meta, skipped = found
        for line in skipped:
            self.listener.warn(f"A checkpoint was passed over: {line}. Going on from step {int(state.step)}.")
        if meta["data"] != self.dataset.identity:
            raise DataError(
                f"The run was trained on {meta['data']['name']} (SHA-256 {meta['data']['sha256'][:12]}…), but what is "
                f"there now is {self.dataset.name} ({self.dataset.sha256[:12]}…). Bring the first back (`data.dir`)."
            )
        refuse_changes(meta["config"], configuration.plain(self.config))
        self.config = autotune.as_before(self.config, meta["config"])
        here = record.place(self.environment)
        if changed := [name for name in here if meta["place"].get(name) != here[name]]:
            self.listener.warn(
                f"The run was begun elsewhere ({', '.join(changed)} differ): it goes on, but not bit for bit."
            )
        return state

    def _settle(self, state: TrainState, interruption: Interruption) -> None:
        """Measure what the configuration leaves open, once in the life of a run, and write it to its config.toml."""
        stop = partial(self._stop_if_signalled, 0, interruption)
        trial = autotune.Trial(self.dispatch, state, self.images, self._order(1), stop)
        self.config = autotune.settle(self.config, trial, self.total_steps, self.listener)
        disk.write(self.folder.config, configuration.dump(self.config))

    def _epoch(self, epoch: int, state: TrainState, rows: record.Record, interruption: Interruption) -> TrainState:
        state, seconds, steps = self._steps(epoch, state, self._order(epoch), rows, interruption)
        step, images = int(state.step), self.steps_per_epoch * self.config.train.batch_size
        report: dict[str, Any] = {"step": step, "epoch": epoch}
        sums = (np.atleast_1d(np.asarray(total)).tolist() for total in (state.loss_sum, state.correct_sum))
        train = [(loss / self.steps_per_epoch, correct / images) for loss, correct in zip(*sums, strict=True)]
        rate = {"learning_rate": float(np.asarray(self.task.learning_rate(step - 1)))}  # of the last step
        report |= self._rows(rows, "train", step, epoch, train, **rate) | rate
        if epoch % self.config.train.validate_every == 0 or epoch == self.config.train.epochs:
            found = self._rows(rows, "validation", step, epoch, self._validate(state))
            report |= {f"validation_{name}": value for name, value in found.items()}
        speed = {
            "seconds": seconds,
            "steps": steps,
            "images_per_second": steps * self.config.train.batch_size * len(self.seeds) / seconds,
        }
        self._warn_of_long_calls(seconds / steps)
        rows.timing(step=step, epoch=epoch, **speed, compile_seconds=self.dispatch.compile_seconds)
        self._save(state, rows)
        self.listener.epoch(report | speed)
        self._stop_if_signalled(step, interruption)
        return state

    def _order(self, epoch: int) -> jax.Array:
        """The order of the images in an epoch; of several seeds each its own, drawn by the program of a single one."""
        draw = partial(_order, epoch=jnp.int32(epoch), size=self.images.labels.shape[0])
        return jnp.stack([draw(key) for key in self.keys.order]) if len(self.seeds) > 1 else draw(self.keys.order)

    def _validate(self, state: TrainState) -> list[tuple[float, float]]:
        """Loss and accuracy of each seed, by the program of a single one."""
        if len(self.seeds) == 1:
            return [self.evaluate(state)]
        return [self.evaluate(member(state, place)) for place in range(len(self.seeds))]

    def _rows(
        self, rows: record.Record, kind: str, step: int, epoch: int, found: list[tuple[float, float]], **more: float
    ) -> dict[str, float]:
        """Write a row for each seed, of its loss and accuracy. → these over the seeds."""
        for seed, (loss, accuracy) in zip(self.seeds, found, strict=True):
            which = {"epoch": epoch} | ({"seed": seed} if len(self.seeds) > 1 else {})
            rows.row(kind=kind, step=step, **which, loss=loss, accuracy=accuracy, **more)
        losses, accuracies = zip(*found, strict=True)
        return over_seeds("loss", losses) | over_seeds("accuracy", accuracies)

    def _steps(
        self, epoch: int, state: TrainState, order: jax.Array, rows: record.Record, interruption: Interruption
    ) -> tuple[TrainState, float, int]:
        """What is left of an epoch's steps. → (state, seconds without compiling, probing and saving, steps)."""
        first, last = int(state.step), epoch * self.steps_per_epoch
        compiled = self.dispatch.compile_seconds
        flight = InFlight(self._finished, self.dispatch.chunk)
        every = self.config.train.checkpoint_every
        begin = time.perf_counter()
        step = first
        while step < last:
            programs, begun = len(self.dispatch.compiled), step
            step += self.dispatch.span(begun)
            if self.probe is not None and (cells := self.probe.due(begun, step - begun)):
                with flight.paused():
                    for row in self.probe(cells, state, self.images, order):
                        # of the step to come: a run that goes on from before it probes it again
                        rows.row(kind="probe", step=begun + 1, epoch=epoch, **row)
            state, metrics = self.dispatch(begun, state, self.images, order)
            flight.add(begun, step - begun, metrics, timed=len(self.dispatch.compiled) == programs)
            due = every is not None and step // every > begun // every
            # the checkpoint at the end of an epoch waits for the epoch's rows
            if (due or interruption.signal_number is not None) and step < last:
                with flight.paused():
                    self._save(state, rows)
                    self._stop_if_signalled(step, interruption)
        flight.drain()
        seconds = time.perf_counter() - begin - flight.paused_seconds
        seconds -= self.dispatch.compile_seconds - compiled
        return state, seconds, last - first

    def _warn_of_long_calls(self, step_seconds: float) -> None:
        chunk, lasts = self.dispatch.chunk, self.dispatch.chunk * step_seconds
        if chunk > 1 and lasts > autotune.SERVED and not self._warned:
            self._warned = True
            self.listener.warn(f"A call of train.chunk={chunk} steps lasts {lasts:.0f} s, and a signal waits for it.")

    def _stop_if_signalled(self, step: int, interruption: Interruption) -> None:
        if interruption.signal_number is not None:
            raise InterruptedRun(
                interruption.signal_number,
                f"Stopped by a signal {f'after step {step}, which is saved' if step else 'before the first step'}. "
                f"Go on with: approxtrain train --resume {self.folder.path}",
            )

    def _finished(self, step: int, losses: list[float], seconds: float | None) -> None:
        for seed, loss in zip(self.seeds, losses, strict=True):
            if math.isfinite(loss):
                continue
            of_seed = f" of seed {seed}" if len(self.seeds) > 1 else ""
            methods = sorted({method.label for method in self.schedule.column(step)})
            raise DivergedError(
                f"The loss of step {step}{of_seed} is {loss}, under the methods {', '.join(methods)}. "
                f"What was saved before is finite and stays in {self.folder.checkpoints}. "
                "Start a new run with a smaller `optimizer.learning_rate`, or with fewer approximated cells.",
                step,
                loss,
            )
        if seconds is not None:
            self.step_seconds.append(seconds)
        self.listener.step(step + 1, losses)

    def _save(self, state: TrainState, rows: record.Record) -> None:
        rows.sync()
        meta = {
            "config": configuration.plain(self.config),
            "data": self.dataset.identity,
            "place": record.place(self.environment),
        }
        checkpoint.save(self.folder.checkpoints, int(state.step), state, meta)
        marks.saved(self.folder.path, int(state.step))

    def _summary(self, start: int, trajectory: int) -> dict[str, Any]:
        found = outcome(record.rows(self.folder.path / record.METRICS), self.seeds)
        several = {"seeds": len(self.seeds), "seeds_by": self.dispatch.seeds_by} if len(self.seeds) > 1 else {}
        summary = {
            "model": self.model.name,
            "schedule": self.config.schedule.title,
            "data": self.dataset.identity | {"validation": self.dataset.validation},
            "seed": self.config.train.seed,
            **several,
            "epochs": self.config.train.epochs,
            "steps": self.total_steps,
            "precision": self.config.train.precision,
            **found,
            "measured_from_step": start,
            "step_ms": spread([1e3 * s for s in self.step_seconds]),
            "dispatch": self.dispatch.mode,
            "chunk": self.dispatch.chunk,
            "columns": len(self.schedule.columns),
            "compile_seconds": self.dispatch.compile_seconds,
            **({} if self.probe is None else self.probe.cost()),
            "config": configuration.digest(self.config),
            "trajectory": trajectory,
            "environment": self.environment,
        }
        record.summary(self.folder.path, summary)
        curves.plot(self.folder.path)
        return summary
