"""`approxtrain bench-kernel`: the paper's Table 1, on this device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from approxtrain.errors import ConfigError
from approxtrain_cli import bench_kernel_tables as tables

if TYPE_CHECKING:
    from rich.console import Console

    from approxtrain.bench.kernel_cases import Case

WIDTH = 100


Shapes = Annotated[
    list[str] | None, typer.Option(help="paper, model:NAME (batch 128) or N,H,W,Ci,Co,K,S; repeat it, or use ';'.")
]
MethodName = Annotated[str | None, typer.Option(help="Held against the exact weight gradient; approx if left out.")]
Params = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the method; repeat it.")
]
Dtypes = Annotated[str, typer.Option("--dtype", help="float32, tf32, bfloat16, float16, or some with commas.")]
Part = Annotated[str, typer.Option(help="wgrad, or forward or dgrad, exact: ours against XLA's and PyTorch's.")]
Rounds = Annotated[int, typer.Option(help="Samples of each contender, interleaved; fewer than 6 say nothing.", min=3)]
Listing = Annotated[bool, typer.Option("--list", help="List parts, shapes, methods and dtypes, and stop.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every sample and the environment.")]
Compare = Annotated[Path | None, typer.Option(metavar="FILE", help="Hold the times against those of an older JSON.")]
FailIfSlower = Annotated[
    float | None,
    typer.Option(metavar="PCT", min=0, help="Exit 1 if a row is surely that much slower than its base or --compare."),
]


def bench_kernel(
    shapes: Shapes = None,
    method: MethodName = None,
    params: Params = None,
    dtype: Dtypes = "float32",
    part: Part = "wgrad",
    rounds: Rounds = 20,
    listing: Listing = False,
    json_file: Json = None,
    compare: Compare = None,
    fail_if_slower: FailIfSlower = None,
) -> None:
    """Time single convolutions: the exact weight gradient against a method, XLA's and PyTorch's.

    Each contender is first checked against a float64 reference; where one is wrong, it prints FAIL and no time.

    \b
    approxtrain bench-kernel                              the eight shapes of the paper's Table 1
    approxtrain bench-kernel --shapes model:resnet20 --part dgrad
    approxtrain bench-kernel --shapes 128,32,32,16,16,3,1 --param k=4 --json bench.json
    approxtrain bench-kernel --compare bench.json --fail-if-slower 5
    """
    console = tables.wide_console(WIDTH)
    if listing:
        _list(console)
        return
    from approxtrain.bench import kernel_comparison

    cases, options = asked(shapes or ["paper"], method, params or [], dtype, part, rounds)
    old = kernel_comparison.read(compare, cases) if compare else None
    console.print("starting jax …")
    result = measure(console, cases, options, old)
    show(console, result)
    if json_file:
        from approxtrain.disk import write_json

        write_json(json_file, result)
        console.print(f"written   {json_file}")
    ratios = [(row, row["ratio"]) for row in result["rows"] if row["ratio"]]
    if old:
        changes = list(kernel_comparison.changes(old, result))
        ratios = [(change.row, change.ratio) for change in changes if change.cache == "cold"]
        console.print(f"\nnow against then ({compare}), ms")
        console.print(tables.compared(changes))
    slow = fail_if_slower is not None and _too_slow(console, ratios, fail_if_slower)
    if slow or any(row["failed"] for row in result["rows"]):
        raise typer.Exit(1)


def asked(
    shapes: list[str], method: str | None, params: list[str], dtype: str, part: str, rounds: int
) -> tuple[tuple[Case, ...], dict[str, Any]]:
    """What is to be measured, and the options of the call as the JSON has them. Raises ConfigError. Imports no jax."""
    from approxtrain.bench import kernel_cases
    from approxtrain.schedule.config import make

    try:
        rule = make(method or ("approx" if part == "wgrad" else "full"), _parameters(params))
    except ValueError as error:
        raise ConfigError(f"`--method`: {error}") from None
    what = {"shapes": ";".join(shapes), "method": rule.label, "dtype": dtype, "part": part}
    return kernel_cases.cases(shapes, dtype, part, rule), what | {"cache": "cold", "rounds": rounds}


def measure(console: Console, cases: Sequence[Case], options: dict[str, Any], old: Any = None) -> dict[str, Any]:
    """The document that --json writes. `old` is one to compare with: refused before anything is timed."""
    from approxtrain.bench import kernel_bench, kernel_comparison, kernel_report, machine, torch_peer
    from approxtrain.bench.kernel_clock import best_clock
    from approxtrain.run.environment import this_environment

    environment, torch, make_clock = this_environment(), torch_peer.facts(), best_clock()
    console.print(f"device    {device_text(environment)}, jax {environment['versions']['jax']}")
    if environment["device_platform"] == "cpu" and any(case.precision.name == "tf32" for case in cases):
        raise ConfigError("`--dtype tf32` needs an NVIDIA GPU: a CPU has no TF32. Take float32.")
    timer = {"name": make_clock().name, "summary": make_clock().summary}
    if old:
        kernel_comparison.check_alike(old, environment, timer["name"])
    limits = machine.measure(list({case.precision.name: case.precision for case in cases}.values()))
    console.print(tables.limits(limits.as_json()))
    peer = f"PyTorch {torch['version']}, {torch['threads']} threads" if torch else "no PyTorch"
    console.print(f"timer     {timer['name']}: {timer['summary']}; {peer}")
    console.print("rows      {part} by {method}; {dtype}, {rounds} interleaved rounds".format(**options))
    bench, rows = kernel_bench.KernelBench(limits, make_clock, options["rounds"]), []
    with console.status("…") as status:
        for number, case in enumerate(cases):
            text = f"row {number + 1} of {len(cases)}, {tables.describe(asdict(case.shape))} …"
            status.update(text)
            if not console.is_terminal:  # a line that is overwritten is seen on a terminal only
                console.print(text)
            rows.append(bench.row(case, seed=2 * number))
    head = {"schema": kernel_report.SCHEMA, "command": "bench-kernel", **options}
    where = {"timer": timer, "torch": torch, "machine": limits.as_json(), "environment": environment}
    return head | where | {"rows": rows}


def show(console: Console, document: dict[str, Any]) -> None:
    for part in tables.tables(document["rows"]):
        console.print(part)
    console.print()
    for note in tables.notes(document):
        console.print(note, soft_wrap=False)
    for line in tables.failures(document["rows"]):
        console.print(line)


def device_text(environment: dict[str, Any]) -> str:
    if environment["device_platform"] == "cpu":
        return f"cpu: {environment['processor']}, {environment['cpu_count']} cores"
    return f"{environment['device_platform']}: {environment['device']}"


def _too_slow(console: Console, ratios: list[tuple[tables.Row, Any]], percent: float) -> bool:
    """Whether one of the rows surely takes so many percent longer; says which."""
    slower = [
        f"{tables.where(row)} ({tables.interval(ratio)} times as long)"
        for row, ratio in ratios
        if ratio["low"] > 1 + percent / 100
    ]
    if slower:
        console.print(f"too slow  more than {percent:g} % slower: {'; '.join(slower)}")
    return bool(slower)


def _list(console: Console) -> None:
    """What the options take, with a word on each."""
    from approxtrain.bench import kernel_cases
    from approxtrain_kernels.methods import all_methods

    params = {
        name: [f"{field.name}={field.default}" for field in rule.parameters()] for name, rule in all_methods().items()
    }
    listed = {
        "--part": list(kernel_cases.PARTS.items()),
        "--shapes": [
            ("paper", "the eight shapes of the paper's Table 1, batch 128"),
            ("model:NAME", "the convolutions of one of `approxtrain ls models`, batch 128"),
            ("N,H,W,Ci,Co,K,S", "images, height, width, channels in and out, kernel, stride; padding SAME"),
        ],
        "--method": [(name, ", ".join(defaults) or "no parameter") for name, defaults in params.items()],
        "--dtype": [(each.name, each.summary) for each in kernel_cases.PRECISIONS.values()],
    }
    for option, values in listed.items():
        console.print(option, style="bold")
        for name, text in values:
            console.print(f"  {name:<16} {text}")


def _parameters(given: list[str]) -> dict[str, object]:
    """`--param NAME=VALUE`, several times; of one name the last counts. Raises ConfigError."""
    params: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"`--param` (={text!r}) must be NAME=VALUE, such as k=4.")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value  # a word
    return params
