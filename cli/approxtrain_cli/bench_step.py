"""`approxtrain bench-step`: whole training steps, schedules and peers side by side."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from approxtrain.errors import ConfigError
from approxtrain_cli import output
from approxtrain_cli.bench_kernel import Json, Rounds
from approxtrain_cli.bench_kernel_tables import wide_console

if TYPE_CHECKING:
    from approxtrain.config import Config

WIDTH = 120


Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG]... [KEY=VALUE]...", help="Presets or TOML files of one model; overrides of all."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="Time the named schedules with this method too; may be repeated."),
]
Peers = Annotated[
    list[str] | None,
    typer.Option("--peer", metavar="plain|torch|none", help="Peers in the same run; default: all that there are."),
]


def bench_step(
    arguments: Arguments = None,
    methods: Methods = None,
    peers: Peers = None,
    rounds: Rounds = 15,
    json_file: Json = None,
) -> None:
    """Time whole training steps: forward, backward, optimiser and augmentation.

    The exact step alone, in a loop and under lax.switch; each configuration's schedule, with the bound on what it can
    save and the share of it that is reached; and as peers the same network on Flax's own operations and in PyTorch.
    Interleaved, with 95 % intervals; docs/bench-step.md reads the tables.

    \b
    approxtrain bench-step resnet20-schedule1-approx data.name=shapes --method zero --method pooled
    approxtrain bench-step cnn2-approx data.name=shapes --peer none --json cnn2.json
    """
    configs, peers = _configs(arguments or [], methods or []), _peers(peers)
    console = wide_console(WIDTH)
    console.print("starting jax …")
    from approxtrain.bench.step_bench import StepBench
    from approxtrain.bench.step_report import report
    from approxtrain.run import process
    from approxtrain.run.environment import this_environment
    from approxtrain_cli.bench_step_tables import tables

    process.keep_programs(warn=output.warn)
    here = this_environment()
    bench = StepBench(next(iter(configs.values())))
    done = itertools.count(1)
    with console.status("compiling …") as status:
        schedules = {name: config.schedule for name, config in configs.items()}

        def on_round() -> None:
            status.update(f"round {next(done)} of {rounds + 1}, of which one warms up …")

        result = report(bench, bench.run(schedules, rounds, peers=peers, on_round=on_round))
    for table in tables(result):
        console.print(table)
    if json_file:
        from approxtrain.disk import write_json

        write_json(json_file, {"command": "bench-step", **result, "environment": here})
        console.print(f"\nwritten   {json_file}")


def _configs(arguments: list[str], methods: list[str]) -> dict[str, Config]:
    """Schedule → configuration: each as it stands, and those with a named schedule once for each further method."""
    from approxtrain.config import DEFAULT_PRESET, is_override, load

    sources = [argument for argument in arguments if not is_override(argument)] or [DEFAULT_PRESET]
    overrides = [argument for argument in arguments if is_override(argument)]
    configs: dict[str, Config] = {}
    for source in sources:
        config = load(source, overrides)
        configs[config.schedule.title if config.schedule.name else Path(source).stem] = config
        for method in methods if config.schedule.name else []:
            other = load(source, [*overrides, f"schedule.method={method}"])
            configs[other.schedule.title] = other
    for key in ("model", "data", "train.batch_size", "train.precision"):
        values = sorted({str(attrgetter(key)(config)) for config in configs.values()})
        if len(values) > 1:
            raise ConfigError(
                f"`{key}` differs between the configurations ({', '.join(values)}): steps are held against one exact "
                "step, so give all of them one value, or run bench-step once for each."
            )
    return configs


def _peers(names: list[str] | None) -> list[str]:
    known = ["plain", "torch"]
    if unknown := sorted(set(names or []) - {*known, "none"}):
        raise ConfigError(f"--peer {unknown[0]} is unknown: it is plain, torch or none.")
    if names == ["none"]:
        return []
    if "torch" in (names or []) and find_spec("torch") is None:
        raise ConfigError("--peer torch needs PyTorch, which is not installed: pip install torch, or leave it out.")
    return names or known
