"""`approxtrain schedule-show`: the paper's Figure 3 for a configuration, and what its schedule can save."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from approxtrain.config import Config
    from approxtrain.schedule.summary import Key, PhaseView, Summary

TO_ASCII = str.maketrans({"×": "x", "→": ">", "·": ".", "−": "-", "…": "~"})
TILE = 3
"""Characters of a cell, at least."""


def schedule_show(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="Preset or TOML file (default: quickstart), overrides."),
    ] = None,
    replicas: Annotated[
        bool, typer.Option("--replicas", help="Show what each of the devices that share a batch runs and sends.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Draw it to a .png, .svg or .pdf as well.")
    ] = None,
) -> None:
    """Show which layers approximate at which steps, and the largest possible speed-up.

    \b
    approxtrain schedule-show resnet20-schedule1-approx
    approxtrain schedule-show resnet20-schedule1-approx schedule.name=schedule3 schedule.method=zero
    approxtrain schedule-show figure3 --image figure3.png
    approxtrain schedule-show resnet20-full parallel.devices=4 --replicas
    """
    from approxtrain.config import load, split

    summary = summarise(load(*split(arguments or [])))
    if image is not None:
        from approxtrain.schedule.picture import draw

        draw(summary, image, replicas=replicas)
    if as_json:
        print(json.dumps(summary.as_dict()))
        return
    from rich.console import Console

    show(summary, Console(highlight=False), replicas=replicas)
    if image is not None:
        print(f"image: {image}")


def summarise(config: Config) -> Summary:
    """The configured schedule, for the configured model on the configured images, and the length of the run."""
    from approxtrain import data
    from approxtrain.config import steps_per_epoch
    from approxtrain.schedule import Schedule
    from approxtrain.schedule.summary import Summary
    from approxtrain.training.workload import refuse_what_devices_that_differ_cannot_do

    model, steps = config.model.network(), steps_per_epoch(config)
    if found := data.shape(config.data):
        image_shape, classes = found
        model = model.on(image_shape, classes or model.classes)
    elif size := config.data.image_size:
        model = model.on((size, size, model.image_shape[2]), model.classes)
    epochs, replicas = config.train.epochs, config.parallel.devices
    schedule = Schedule.from_config(config.schedule, model.layers, steps, epochs, replicas)
    refuse_what_devices_that_differ_cannot_do(config, schedule, steps * epochs)
    return Summary(model, config.schedule, schedule, config.train.batch_size, steps, epochs, replicas)


def show(summary: Summary, console: Console, *, replicas: bool = False) -> None:
    """Print a grid for each phase, or for each replica in it, the legend, and the figures."""
    with console.capture() as capture:
        for line in _lines(summary, console.width, replicas):
            console.print(line, soft_wrap=not isinstance(line, str))
    text = capture.get()
    console.file.write(text.translate(TO_ASCII) if console.options.ascii_only else text)


def _lines(summary: Summary, width: int, replicas: bool) -> Iterator[str | Text]:
    from rich.text import Text

    yield Text(f"{summary.model.name}: {summary.config.title}", style="bold")
    epochs = f"{summary.epochs} epoch{'s' if summary.epochs > 1 else ''}"
    size = f"{len(summary.model.layers)} convolutions, batch {summary.batch}"
    yield f"{size}, {epochs} of {summary.steps_per_epoch} steps"
    yield from map(Text, summary.model.unreached)
    if not summary.model.layers:
        return
    apart = summary.replica_groups if replicas else []
    for number, phase in enumerate(summary.phases):
        yield f"\n{_caption(summary, phase)}"
        if len(apart) > 1:
            for name, alone in apart:
                yield f"\n{name}"
                yield from _grid(alone, alone.phases[number], width)
        elif len(summary.phases) == 1 or phase.mask.any():
            yield from _grid(summary, phase, width)
        if len(summary.phases) > 1:
            saved, speed_up = phase.cost.wgrad_share_saved, phase.cost.largest_speed_up
            yield f"{saved:.1%} of the wgrad FLOPs approximated, largest possible speed-up {speed_up:.1%}"
    keys = summary.keys[: len(summary.schedule.cells)] if len(apart) > 1 else summary.keys
    legend = ((_tile(key, TILE), f" {key.label}   ") for key in keys)
    yield Text.assemble("\n", *(part for entry in legend for part in entry), "\n")
    yield from _figures(summary)
    if replicas or summary.schedule.replicas > 1 or summary.schedule.local.windows:
        yield from _shared(summary)


def _caption(summary: Summary, phase: PhaseView) -> str:
    when = ", ".join(filter(None, [summary.when(phase), phase.seen.text]))
    if len(summary.phases) > 1 and not phase.mask.any():
        return f"{when}: every layer full"
    if phase.period == 1:
        return f"{when}: always the same"
    if not phase.repeats:
        return f"{when}, once; column j: step {f'{phase.first} + ' if phase.first else ''}j"
    step = f"(step − {phase.first})" if phase.first else "step"
    return f"{when}, repeated every {phase.period}; column j: {step} mod {phase.period} = j"


def _grid(summary: Summary, phase: PhaseView, width: int) -> Iterator[Text]:
    """Rows are layers, columns are steps of the period, or runs of equal steps where these are too many."""
    from rich.text import Text

    left = _layers(summary, narrow=width < 72)
    room = width - len(left[0])
    spans = phase.spans(room // TILE)
    headers = ["all"] if phase.period == 1 else [str(a) if a == b else f"{a}-{b}" for a, b in spans]
    widths = [max(TILE, len(header) + 1) for header in headers]
    ends = list(accumulate(widths))
    shown = max(1, sum(end <= room - 2 * (end < ends[-1]) for end in ends))  # 2 for the mark that it goes on
    more = " …" if shown < len(spans) else ""
    head = (f" {header}".ljust(wide) for header, wide in zip(headers[:shown], widths, strict=False))
    yield Text("".join([left[0], *head, more]), "bold")
    for row, text in enumerate(left[1:]):
        keys = (summary.keys[phase.mask[row, first]] for first, _ in spans[:shown])
        tiles = (_tile(key, wide) for key, wide in zip(keys, widths, strict=False))
        yield Text.assemble(text, *tiles, more)
    if more:
        yield Text(f"drawn: the first {spans[shown - 1][1] + 1} of {phase.period} steps", "italic")


def _layers(summary: Summary, narrow: bool) -> list[str]:
    """The left part of a grid: its head, then a line for each layer, all of the same width."""
    from approxtrain.schedule.summary import describe_shape

    rows = [("", "layer", "shape", "FLOPs")]
    for layer, share in zip(summary.model.layers, summary.layer_shares(), strict=True):
        rows.append((str(layer.number), layer.path, describe_shape(layer), f"{share:.1%}"))
    number, path, shape, share = (max(map(len, column)) for column in zip(*rows, strict=True))
    middle = [("" if narrow else f" {row[2]:<{shape}}") for row in rows]
    return [
        f"{row[0]:>{number}} {row[1]:<{path}}{text} {row[3]:>{share}} " for row, text in zip(rows, middle, strict=True)
    ]


def _tile(key: Key, width: int) -> tuple[str, str]:
    """A cell: its letter, on its colour unless it is `full`."""
    return (key.letter.center(width), "dim" if key.label == "full" else f"bold {key.ink} on {key.colour}")


def _shared(summary: Summary) -> Iterator[str]:
    """What each replica has to do and sends, a step."""
    load, count = summary.load, summary.replicas
    loads = load.of_replica if len(load.of_replica) > 1 else load.of_replica * count
    shown = ", ".join(f"{share:.1%}" for share in loads[:8]) + (", …" if count > 8 else "")
    yield f"replicas                      {count}, of {summary.batch // count} images each"
    yield f"load of each                  {shown} of an exact step"
    yield f"the slowest of each step      {load.slowest:.1%} (all wait for it; the mean is {load.mean:.1%})"
    sent, exact = load.bytes_sent / 1e6, load.bytes_exact / 1e6
    local = summary.schedule.local.windows
    for window in local:
        last = "" if window.stop is None else f" to {window.stop - 1}"
        steps = f"the mean of all after {window.value} steps of each"
        yield f"local SGD                     from step {window.begin}{last}: {steps}"
    what = f"weight{'s' if local else ' gradients'} sent"
    beside = "; moments and statistics besides" if local else ""
    yield f"{what:<30}{sent:.3g} of {exact:.3g} MB a step in float32, by each{beside}"


def _figures(summary: Summary) -> Iterator[str]:
    """What the schedule uses and saves over the whole run."""
    cells = ", ".join(f"{label} {share:.1%}" for label, share in summary.schedule.shares(summary.steps).items())
    run = summary.run
    if len(summary.phases) > 1:
        yield f"over the run of {summary.steps} steps:"
    yield f"cells                         {cells}"
    yield f"distinct columns              {len(summary.schedule.columns)} (each is compiled once)"
    where = "host on several devices" if summary.replicas > 1 else "switch on a CPU, host on a GPU"
    auto = f": {where}" if summary.config.dispatch == "auto" else ""
    yield f"dispatch                      {summary.config.dispatch}{auto}"
    yield f"wgrad FLOPs approximated      {run.wgrad_share_saved:.1%}"
    if run.resized:
        yield f"saved by the images seen      {run.share_resized:.1%} of the step's FLOPs"
    if run.left_out:
        yield f"saved by blocks left out      {run.share_left_out:.1%} of the step's FLOPs"
    if run.dgrad_replaced:
        inexact = ", ".join(method.label for method in summary.schedule.cells if not method.exact_dgrad)
        yield f"dgrad FLOPs replaced          {run.dgrad_share_replaced:.1%} of the step's, by {inexact}"
    if summary.schedule.frozen_prefix:
        yield f"dgrad FLOPs saved             {run.dgrad_share_saved:.1%} of the step's, by the frozen prefix"
    apart = len(summary.replica_groups) > 1
    formula = f"1 − T_method / T_full in convolution FLOPs{', the mean over devices' * apart}"
    yield f"largest possible speed-up     {run.largest_speed_up:.1%} ({formula})"
    yield f"with the methods' own FLOPs   {run.speed_up_with_methods:.1%}"
    other = summary.with_prefix
    if other.dgrad_saved > run.dgrad_saved:
        yield (
            f"schedule.frozen_prefix=true would save {other.dgrad_share_saved:.1%} of the step's FLOPs in dgrads; "
            f"largest possible speed-up then {other.largest_speed_up:.1%}"
        )
    for found in summary.saves_nothing:
        layers = f"layer{'s' if len(found['layers']) > 1 else ''} {', '.join(map(str, found['layers']))}"
        yield f"{found['method']} saves no time on {found['device']} in {layers}, {found['why']}"
