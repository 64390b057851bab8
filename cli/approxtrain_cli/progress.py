"""What the user sees while a network trains: a bar on a terminal, one plain line an epoch where there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from approxtrain.run.summary import over_seeds
from approxtrain.training.events import Listener
from approxtrain.training.workload import Workload
from approxtrain_cli import output

QUIET_SECONDS = 30.0
"""Where stdout is no terminal, a run says at least this often that it lives."""


class Progress(Listener):
    """A context manager; hand it to `Run`, then call `conclude` with the summary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(file=output.lasting(), highlight=False, soft_wrap=True)
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

    def stopping(self) -> None:
        self.say("stopping after this step …; once more leaves at once")

    def begin(self, work: Workload, step: int) -> None:
        self.work, self.first = work, step
        images, train = work.dataset, work.config.train
        by_share = sorted(work.schedule.shares(work.total_steps).items(), key=lambda item: -item[1])
        shares = ", ".join(f"{label} {share:.0%}" for label, share in by_share if share > 0)
        self.say(f"model     {work.model.name}, {len(work.model.layers)} convolutions")
        for line in work.model.unreached:
            self.say(f"          {line}")
        self.say(
            f"data      {images.name}: {len(images.train)} training images, "
            f"{len(images.validation)} to validate on ({images.validated_on}){', streamed' if images.streamed else ''}"
        )
        if (devices := work.config.parallel.devices) > 1:
            self.say(f"devices   {devices}, with {train.batch_size // devices} images of each batch")
        columns = len(work.schedule.columns)
        distinct = f"{columns} distinct column{'s' * (columns > 1)}"
        cells = f"{shares} of the cells; {distinct}" if shares else "it has nothing to reach"
        self.say(f"schedule  {work.config.schedule.title}: {cells}")
        going_on = f", going on from {step}" if step else ""
        at_once = f" of {_span(train.all_seeds)} at once" if train.seeds > 1 else ""
        self.say(f"steps     {work.total_steps} in {train.epochs} epochs{at_once}{going_on}")
        self.say(f"folder    {self.folder}")
        self.began = self.spoken = time.monotonic()
        self.task = self.bar.add_task("training", total=work.total_steps, completed=step, figures="", shares=shares)

    def compiling(self, first: int, last: int, total: int, steps: int) -> None:
        columns = f"column {first}" if first == last else f"columns {first} to {last}"
        several = f", {steps} steps a call" if steps > 1 else ""
        self.say(f"compiling {columns} of {total}{several} …")

    def compiling_probe(self, cells: int) -> None:
        self.say(f"compiling the probe of {cells} approximated layer{'s' if cells > 1 else ''} …")

    def compiled(self, seconds: float) -> None:
        self.began += seconds  # the rate is that of training alone

    def step(self, step: int, losses: Sequence[float]) -> None:
        elapsed = max(time.monotonic() - self.began, 1e-9)
        images = self.work.schedule.images(self.work.config.train.batch_size, self.first, step)
        rate = images * len(losses) / elapsed
        figures = f"loss {_figure(over_seeds('loss', losses), 'loss', '.3f')}  {rate:,.0f} images/s"
        self.bar.update(self.task, completed=step, figures=figures)
        if not self.console.is_terminal and time.monotonic() - self.spoken > QUIET_SECONDS:
            self._line(f"step {step} of {self.work.total_steps}  {figures}")

    def epoch(self, row: dict[str, Any]) -> None:
        validation = "validation_accuracy"
        validated = f"  validation {_figure(row, validation, '.2%')}" if validation in row else ""
        waited = f"  waited {row['data_wait_seconds']:.1f} s for them" if "data_wait_seconds" in row else ""
        self._line(
            f"epoch {row['epoch']} of {self.work.config.train.epochs}  loss {_figure(row, 'loss', '.4f')}  "
            f"training {_figure(row, 'accuracy', '.2%')}{validated}  {row['images_per_second']:,.0f} images/s{waited}"
        )

    def _line(self, text: str) -> None:
        self.say(text)
        self.spoken = time.monotonic()

    def conclude(self, summary: dict[str, Any]) -> None:
        step = summary["step_ms"]
        spread = f" (quartiles {step['q1']:.1f} to {step['q3']:.1f}, n={step['n']})" if "q1" in step else ""
        self.say("")
        seeds = summary["by_seed"]
        several = f", mean ± sd of {_span([one['seed'] for one in seeds])}"
        where = several if len(seeds) > 1 else f" in epoch {seeds[0]['best_epoch']}"
        final, best = (_figure(summary, f"{which}_accuracy", ".2%") for which in ("final", "best"))
        data = f"{summary['data']['name']} ({summary['data']['validation']})"
        self.say(f"accuracy  final {final}, best {best}{where}, on {data}")
        if "weights_kept" in summary:
            self.say(f"weights   {_figure(summary, 'weights_kept', ',.0f')} of {summary['weights']:,} kept")
        if "channels" in summary:
            self.say(f"channels  {_figure(summary, 'channels_pruned', ',.0f')} of {summary['channels']:,} pruned")
        if "median" in step:
            self.say(
                f"step      {step['median']:.1f} ms{spread}, {summary['compile_seconds']:.1f} s of compiling besides"
            )
        if summary.get("data_wait_share") is not None:
            workers = summary["data_workers"]
            read = f"streamed by {workers} process{'es' * (workers > 1)}" if workers else "streamed"
            self.say(f"images    {read}; the steps waited {summary['data_wait_seconds']:.1f} s for them in all")
        for what, names in (("curves", ["curves.png"]), ("logs", ["metrics.jsonl", "summary.json", "tensorboard"])):
            if there := [str(self.folder / name) for name in names if (self.folder / name).exists()]:
                self.say(f"{what:<10}{', '.join(there)}")


def _figure(values: Mapping[str, float], name: str, form: str) -> str:
    """A value, and its standard deviation over the seeds where there are several: "88.10% ± 0.35%"."""
    sd = f" ± {values[f'{name}_sd']:{form}}" if f"{name}_sd" in values else ""
    return f"{values[name]:{form}}{sd}"


def _span(seeds: Sequence[int]) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}"
