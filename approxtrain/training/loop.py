"""The training loop: epochs of steps, rows of metrics, validation, checkpoints. Prints nothing; a `Listener` is told.

Everything that happens is a pure function of configuration, data set and step, so a resumed run needs only the
arrays of its last checkpoint to go on bit for bit as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from approxtrain import config as configuration
from approxtrain import disk
from approxtrain.config import Config
from approxtrain.data import Dataset
from approxtrain.errors import DivergedError
from approxtrain.run import curves, divergence, record
from approxtrain.run.facts import latest
from approxtrain.run.folder import RunFolder
from approxtrain.run.summary import outcome, over_seeds
from approxtrain.run.team import ALONE, Team
from approxtrain.training import saving
from approxtrain.training.batch import Images, Keys
from approxtrain.training.blame import Blame
from approxtrain.training.dispatch import Dispatch, steps_a_call
from approxtrain.training.evaluate import Evaluation, Evaluator
from approxtrain.training.events import Listener, told
from approxtrain.training.feed import feed_of, reading
from approxtrain.training.finite import places
from approxtrain.training.optimizer import what_is_left
from approxtrain.training.parallel import Replicas, on_first
from approxtrain.training.pending import PendingCalls, spread
from approxtrain.training.probe import Probe
from approxtrain.training.signals import Interruption, TeamInterruption
from approxtrain.training.step import TrainState, set_up
from approxtrain.training.trackers import Several, trackers
from approxtrain.training.verify import Verification
from approxtrain.training.workload import Workload


class Run:
    """One training run in its folder. Build it, then call `train`."""

    def __init__(
        self, config: Config, folder: RunFolder, listener: Listener, dataset: Dataset | None = None, team: Team = ALONE
    ) -> None:
        self.config, self.folder, self.team = config, folder, team
        self.listener = listener = Several(listener, *trackers(config.train.trackers, folder.path, listener.warn))
        saving.find_own_code(team, latest(folder.checkpoints))
        work = Workload.of(config, dataset)
        saving.refuse_other_images(team, work)
        self.dataset, self.seeds = work.dataset, config.train.all_seeds
        self.keys, self.replicas = Keys.of(self.seeds), Replicas.of(config)
        self.feed = feed_of(self.dataset, config, self.keys, self.replicas, team)
        self.task, self.initial = set_up(work.model, config, work.steps_per_epoch, self.keys.init)
        self.evaluate = Evaluator(self.task, self.feed.validation)
        self.places = places(self.initial)
        self._follow(work, config.schedule.dispatch)
        self.facts = saving.facts_of(config, work, self.feed.statistics)
        self.step_seconds: list[float] = []

    def _follow(self, work: Workload, mode: str, compile_seconds: float = 0.0) -> None:
        """Go by the schedule of `work` from here on."""
        self.workload, train, listener = work, self.config.train, self.listener
        self.dispatch = Dispatch(
            self.task,
            work.schedule,
            self.keys,
            train,
            mode=mode,
            streamed=self.feed.streamed,
            replicas=self.replicas,
            listener=listener,
            compile_seconds=compile_seconds,
        )
        self.probe = (
            None if train.probe_every is None else Probe(self.dispatch, train.probe_every, self.seeds, listener)
        )
        self.blame = Blame(work, self.seeds, self.places, self.folder.path)
        self.verification = Verification(self.dispatch, train.verify_every)

    def train(self) -> dict[str, Any]:
        """Train from the newest checkpoint in the folder, or from the start, to the end. Returns the summary.

        Raises DivergedError, InterruptedRun, DiskError, CheckpointError; what was saved before stays.
        """
        state, written = self._restore()
        self.folder.refuse_moved()
        if not self.folder.config.exists():  # the first of all: what is killed from here on can be resumed
            disk.write(self.folder.config, configuration.dump(self.config))
        interrupted = Interruption(self.listener.stopping) if self.team.count == 1 else TeamInterruption(self.team)
        with record.Record(self.folder.path, written) as rows, interrupted as interruption:
            disk.write(self.folder.config, configuration.dump(self.config))
            start = int(state.step)
            with told(self.listener, self.workload, start):
                summary = saving.summary_of(self.folder, start) if start == self.workload.total_steps else None
                if self.team.agreed(summary is not None):
                    return summary or {}
                statistics = self.replicas.not_synchronised(self.task)
                for warning in (*self.workload.warnings(self.dispatch.mode), *statistics):
                    self.listener.warn(warning)
                if self.team.agreed(written is None):  # rows without a checkpoint are always a loss
                    self._save(state, rows)
                state = self._epochs(state, rows, interruption)
                return self._summary(start, state) if self.team.is_first else {}

    def _epochs(self, state: TrainState, rows: record.Record, interruption: Interruption) -> TrainState:
        """The epochs that are left."""
        done, within = divmod(int(state.step), self.workload.steps_per_epoch)
        try:
            for epoch in range(done + bool(within), self.config.train.epochs + 1):  # what ends with an epoch is told it
                state = self._epoch(epoch, state, rows, interruption) if epoch > done else state
                self.listener.state(epoch, state)
                interruption.end_run(int(state.step), self.folder.path)
        except DivergedError as error:
            self.folder.refuse_moved()
            divergence.note(self.folder.path, error)
            raise
        finally:
            self.feed.close()
        self.dispatch.chunk = self._chunk(self.config.train.epochs)  # also where no epoch was left
        return state

    def _restore(self) -> tuple[TrainState, record.Written | None]:
        """The state to go on from, and the rows that are vouched for; None at the start of a run."""
        initial = self.initial
        del self.initial  # its arrays are given up to the first step
        state, self.facts, written = saving.restore(self.team, self.folder, initial, self.facts, self.listener)
        self.saved = saving.path_of(self.folder, state)
        if self.facts.plateau is not None:
            self._exact_from(self.facts.plateau)
        return self.replicas.place(state), written

    def _save(self, state: TrainState, rows: record.Record) -> None:
        self.replicas.refuse_unless_equal(state)
        if self.team.is_first:
            saving.save(self.folder, state, self.facts, rows)
        self.saved = saving.path_of(self.folder, state)

    def _epoch(self, epoch: int, state: TrainState, rows: record.Record, interruption: Interruption) -> TrainState:
        """Train what is left of an epoch, then write its rows and save."""
        self.dispatch.chunk = self._chunk(epoch)
        state, seconds, steps = self._steps(epoch, state, rows, interruption)
        step, batch = int(state.step), self.config.train.batch_size
        count = self.workload.steps_per_epoch
        losses, correct = (np.asarray(each).tolist() for each in (state.loss_sum, state.correct_sum))
        training = [(loss / count, right / (count * batch)) for loss, right in zip(losses, correct, strict=True)]
        rate = {"learning_rate": float(np.asarray(self.task.learning_rate(step - 1)))}  # of the last step
        report: dict[str, Any] = {"step": step, "epoch": epoch}
        report |= self._rows(rows, {"kind": "train"} | report, training, **rate) | rate
        if epoch % self.config.train.validate_every == 0 or epoch == self.config.train.epochs:
            where = {"kind": "validation", "step": step, "epoch": epoch}
            # a stream is read by the first process alone, so that it is read once
            evaluated = self.evaluate(state) if self.team.is_first or not self.feed.streamed else []
            figures = [Evaluation(*figures) for figures in self.team.agreed(evaluated)]
            validation = self._rows(rows, where, figures)
            report |= {f"validation_{name}": value for name, value in validation.items()}
            self.facts = self.facts.after_validation(step, validation["accuracy"], validation["loss"])
            self._look_for_a_plateau(step)
        images_per_second = self.dispatch.schedule.images(batch, step - steps, step) * len(self.seeds) / seconds
        speed = {"seconds": seconds, "steps": steps, "images_per_second": images_per_second, **self.feed.waited()}
        rows.timing(step=step, epoch=epoch, **speed, compile_seconds=self.dispatch.compile_seconds)
        self._decide_chunk(seconds / steps)
        self._save(state, rows)
        self.listener.epoch(report | speed)
        return state

    def _look_for_a_plateau(self, step: int) -> None:
        """After a validation: whether every layer is exact from here on."""
        patience, between = self.config.schedule.until_plateau, self.config.train.validate_every
        if self.facts.on_a_plateau(step, patience, between * self.workload.steps_per_epoch):
            self.facts = self.facts._replace(plateau=step)
            self._exact_from(step)
            self.listener.warn(f"{patience} validations brought no better accuracy: from step {step} on all is exact.")

    def _exact_from(self, step: int) -> None:
        """By a program for each column, so that only the exact one is compiled."""
        work = replace(self.workload, schedule=self.workload.schedule.exact_from(step))
        self._follow(work, "host", self.dispatch.compile_seconds)

    def _chunk(self, epoch: int) -> int:
        """Steps a call: as given, else single ones in the first epoch and then as was decided (`steps_a_call`)."""
        if self.feed.streamed:
            return 1
        return self.config.train.chunk or (1 if epoch == 1 else self.facts.chunk or 1)

    def _decide_chunk(self, step_seconds: float) -> None:
        """At the end of the first epoch, once in the life of the run."""
        if self.config.train.chunk is None and self.facts.chunk is None and not self.feed.streamed:
            left = self.workload.total_steps - self.workload.steps_per_epoch
            several = self.team.agreed(steps_a_call(step_seconds, self.workload.steps_per_epoch, left))
            self.facts = self.facts._replace(chunk=several if len(self.dispatch.programs) == 1 else 1)

    def _rows(
        self, rows: record.Record, row: dict[str, Any], figures: Sequence[tuple[float, float]], **more: Any
    ) -> dict[str, float]:
        """Write `row` for each seed, with its loss and accuracy and `more`. → these two over the seeds."""
        for seed, (loss, accuracy) in zip(self.seeds, figures, strict=True):
            # a tracker gives a seed a curve of its own; single runs are compared by curves of one name
            which: dict[str, Any] = {"seed": seed} if len(self.seeds) > 1 else {}
            self.listener.row(rows.row(**row, **which, loss=loss, accuracy=accuracy, **more))
        losses, accuracies = zip(*figures, strict=True)
        return over_seeds("loss", losses) | over_seeds("accuracy", accuracies)

    def _steps(
        self, epoch: int, state: TrainState, rows: record.Record, interruption: Interruption
    ) -> tuple[TrainState, float, int]:
        """What is left of an epoch's steps. → (state, seconds without compiling, probing, saving and the start of a
        stream, steps)."""
        first, last = int(state.step), epoch * self.workload.steps_per_epoch
        order = self.feed.order(epoch)
        compiling_before, starting_before = self.dispatch.compile_seconds, self.feed.start_seconds
        pending = PendingCalls(self._finished, self.dispatch.span(0))
        every = self.config.train.checkpoint_every
        begin = time.perf_counter()
        step, owed = first, False
        while step < last:
            compiled_before, begun = len(self.dispatch.compiled), step
            step += self.dispatch.span(begun)
            images = self.feed.images(begun)
            if self.probe is not None and (cells := self.probe.due(begun, step - begun)):
                with pending.paused():
                    for row in self.probe(cells, state, images, order):
                        # of the step to come: a run that goes on from before it probes it again
                        self.listener.row(rows.row(kind="probe", step=begun + 1, epoch=epoch, **row))
            once = self._once(begun, state, images, order, pending)
            state, metrics = self.dispatch(begun, state, images, order)
            if once is not None:
                self.verification.compare(once, (state, metrics), self.saved)
            pending.add(begun, step - begun, metrics, timed=len(self.dispatch.compiled) == compiled_before)
            due = every is not None and step // every > begun // every
            owed = interruption.due(step) or due or owed
            # the checkpoint at the end of an epoch waits for the epoch's rows, and all for copies that are equal
            if owed and step < last and self.workload.schedule.local.equal_after(step):
                owed = False
                with pending.paused():
                    self._save(state, rows)
                    interruption.end_run(step, self.folder.path)
        pending.drain()
        seconds = time.perf_counter() - begin - pending.paused_seconds
        seconds -= self.dispatch.compile_seconds - compiling_before + self.feed.start_seconds - starting_before
        return state, seconds, last - first

    def _once(self, step: int, state: TrainState, images: Images, order: jax.Array, pending: PendingCalls) -> Any:
        """What the call at `step` comes to, where it is to be computed a second time; its time is no step's."""
        if not self.verification.due(step, self.dispatch.span(step)):
            return None
        self.dispatch.program(step, state, images, order)  # its compiling is counted by itself
        with pending.paused():
            return self.verification.first(step, state, images, order)

    def _finished(self, step: int, losses: list[float], seconds: float | None, flags: np.ndarray | None) -> None:
        # of copies of their own the first device knows its own loss alone; the mean of all is asked where they have it
        for place, loss in enumerate(losses if self.workload.schedule.local.equal_after(step + 1) else ()):
            if told := self.blame(step, place, loss, flags, self.saved):
                raise DivergedError(told, step + 1, None if math.isfinite(loss) else loss)
        if seconds is not None:
            self.step_seconds.append(seconds)
        self.listener.step(step + 1, losses)

    def _summary(self, start: int, state: TrainState) -> dict[str, Any]:
        train = self.config.train
        self.folder.refuse_moved()
        summary = {
            "model": self.workload.model.name,
            "schedule": self.config.schedule.title,
            "data": self.facts.data,
            "seed": train.seed,
            "seeds": train.seeds,
            "devices": self.replicas.count,
            "seeds_by": self.dispatch.seeds_by if train.seeds > 1 else None,
            "epochs": train.epochs,
            "steps": self.workload.total_steps,
            "validation_images": len(self.dataset.validation),
            "precision": train.precision,
            **outcome(record.rows(self.folder.path / record.METRICS), self.seeds),
            **what_is_left(*on_first((state.params, state.opt_state))),
            "measured_from_step": start,
            "step_ms": spread([1e3 * seconds for seconds in self.step_seconds]),
            "dispatch": self.dispatch.mode,
            "chunk": self.dispatch.span(0),
            "columns": len(self.workload.schedule.columns),
            **({"plateau": self.facts.plateau} if self.config.schedule.until_plateau else {}),
            "compile_seconds": self.dispatch.compile_seconds,
            **reading(self.feed, self.dataset, self.config, self.step_seconds),
            "trajectory": self.facts.trajectory,
            "environment": self.facts.environment,
        }
        curves.plot(self.folder.path)
        # the last of all: where it is, a run that is resumed has nothing more to do
        disk.write_json(self.folder.path / record.SUMMARY, record.plain(summary), make_folder=False)
        return summary
