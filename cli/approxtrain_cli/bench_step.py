"""`approxtrain bench-step`: whole training steps, ours against plain `nnx.Conv`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from approxtrain_cli.train import split


def bench_step(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="Preset or TOML file (default: quickstart), overrides."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Times that each contender is timed, interleaved.", min=3)] = 20,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every sample and the environment here.")
    ] = None,
) -> None:
    """Time whole training steps: forward, backward, optimiser and augmentation.

    The exact step (every method full) alone, in a loop and under lax.switch, and the configuration's schedule, against
    the same network on plain nnx.Conv; interleaved, with the 95 % interval of the ratio.

    \b
    approxtrain bench-step resnet20-schedule1-approx data.name=shapes
    approxtrain bench-step cnn2-approx data.name=shapes --rounds 15 --json results/bench-step-cnn2.json
    """
    from approxtrain.config import load

    config = load(*split(arguments or []))
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print("starting jax …")
    from approxtrain import programs, record
    from approxtrain.bench.step import StepBench

    programs.keep()
    environment = record.environment()
    bench = StepBench(config)
    done = 0

    def on_round() -> None:
        nonlocal done
        done += 1
        status.update(f"round {done} (the first ones compile and warm up) …")

    with console.status("compiling …") as status:
        result = bench.run(rounds, on_round)
    _show(console, result)
    if json_file:
        from approxtrain.disk import write_json

        write_json(json_file, {"command": "bench-step", **result, "environment": environment})
        console.print(f"written   {json_file}")


def _show(console, result: dict) -> None:
    from rich.table import Table

    from approxtrain.bench.step import medians

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("step", "ms (median)", "ratio to plain", "95 % interval", "verdict"):
        table.add_column(header, justify="left" if header in ("step", "verdict") else "right", no_wrap=True)
    for name, median in medians(result).items():
        found = result["ratio_to_plain"].get(name)
        rest = (
            ("", "", "")
            if found is None
            else (f"{found['value']:.3f}", f"{found['low']:.3f}–{found['high']:.3f}", found["verdict"])
        )
        table.add_row(name, f"{median:.1f}", *rest)
    console.print(
        f"{result['model']}, batch {result['batch']}, {result['precision']}, {result['data']['name']}, "
        f"{result['rounds']} rounds; schedule: {result['schedule']}"
    )
    console.print(table)
