"""What the user sees while a network trains: a bar on a terminal, one plain line an epoch where there is none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from approxtrain.listener import Listener

if TYPE_CHECKING:
    from approxtrain.train import Run

QUIET_SECONDS = 30.0
"""Where stdout is no terminal, a run says at least this often that it lives."""


class Progress(Listener):
    """A context manager; hand it to `Run`, then call `conclude` with the summary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(highlight=False, soft_wrap=True)
        self.bar = Bar(
            BarColumn(bar_width=max(6, min(20, self.console.width - 74))),  # all of it fits into 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[shares]}", table_column=Column()),  # many shares take a second line
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")

    def begin(self, run: Run, step: int) -> None:
        self.run = run
        data, config = run.dataset, run.config
        shares = method_shares(run)
        self.say(f"model     {run.model.name}, {len(run.model.layers)} convolutions")
        self.say(
            f"data      {data.name}: {len(data.train_labels)} training images, "
            f"{len(data.test_labels)} to validate on ({data.validation})"
        )
        self.say(
            f"schedule  {config.schedule.title}: {shares} of the cells, {len(run.schedule.columns)} compiled steps"
        )
        self.say(
            f"steps     {run.total_steps} in {config.train.epochs} epochs" + (f", going on from {step}" if step else "")
        )
        self.say(f"folder    {self.folder}")
        self.started = self.spoken = time.monotonic()
        self.first = step
        self.task = self.bar.add_task("training", total=run.total_steps, completed=step, figures="", shares=shares)

    def compiling(self, number: int, total: int) -> None:
        what = f"column {number} of {total}" if total > 1 else "the training step"
        self.say(f"compiling {what} …")
        self.compiled_at = time.monotonic()

    def step(self, step: int, loss: float) -> None:
        elapsed = time.monotonic() - self.started - self.run.dispatch.compile_seconds
        rate = (step - self.first) * self.run.config.train.batch_size / max(elapsed, 1e-9)
        figures = f"loss {loss:.3f}  {rate:,.0f} images/s"
        self.bar.update(self.task, completed=step, figures=figures)
        if not self.console.is_terminal and time.monotonic() - self.spoken > QUIET_SECONDS:
            self._line(f"step {step} of {self.run.total_steps}  {figures}")

    def epoch(self, row: dict[str, Any]) -> None:
        validated = f"  validation {row['validation_accuracy']:.2%}" if "validation_accuracy" in row else ""
        self._line(
            f"epoch {row['epoch']} of {self.run.config.train.epochs}  loss {row['loss']:.4f}  "
            f"training {row['accuracy']:.2%}{validated}  {row['images_per_second']:,.0f} images/s"
        )

    def _line(self, text: str) -> None:
        self.say(text)
        self.spoken = time.monotonic()

    def conclude(self, summary: dict[str, Any]) -> None:
        step = summary["step_ms"]
        spread = f" (quartiles {step['q1']:.1f} to {step['q3']:.1f}, n={step['n']})" if "q1" in step else ""
        self.say("")
        self.say(
            f"accuracy  final {summary['final_accuracy']:.2%}, best {summary['best_accuracy']:.2%} in epoch "
            f"{summary['best_epoch']}, on {summary['data']['name']} ({summary['data']['validation']})"
        )
        if "median" in step:
            self.say(
                f"step      {step['median']:.1f} ms{spread}, {summary['compile_seconds']:.1f} s of compiling besides"
            )
        self.say(f"curves    {self.folder / 'curves.png'}")
        self.say(
            f"logs      {self.folder / 'metrics.jsonl'}, {self.folder / 'summary.json'}, {self.folder / 'tensorboard'}"
        )


def method_shares(run: Run) -> str:
    """The share of cells that each method has over the whole run: "full 75%, approx 25%"."""
    visits = run.schedule.visits(0, run.total_steps).sum(0)
    shares = sorted(zip(run.schedule.cells, visits / visits.sum(), strict=True), key=lambda pair: -pair[1])
    return ", ".join(f"{method.label} {share:.0%}" for method, share in shares if share > 0)
