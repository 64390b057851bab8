"""`approxtrain bench-kernel`: the paper's Table 1, on this device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from approxtrain.errors import ConfigError
from approxtrain_cli import bench_kernel_options as option
from approxtrain_cli import bench_kernel_tables as tables

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from approxtrain.bench.kernel_file import Change, Old
    from approxtrain.bench.kernel_row import Row
    from approxtrain.bench.machine import Machine
    from approxtrain_cli.bench_kernel_options import Asked

WIDTH = 100
QUIET_SECONDS = 10.0
"""Where stdout is no terminal, a run says at least this often where it is."""


def bench_kernel(
    shapes: option.Shapes = None,
    method: option.MethodName = None,
    k: option.K = None,
    r: option.R = None,
    param: option.Params = None,
    dtype: option.Dtypes = "float32",
    part: option.PartName = option.Part.WGRAD,
    implementation: option.Implementation = None,
    cache: option.CacheName = option.Cache.COLD,
    rounds: option.Rounds = 20,
    listing: option.Listing = False,
    dry_run: option.DryRun = False,
    json_file: option.Json = None,
    compare: option.Compare = None,
    force: option.Force = False,
    fail_if_slower: option.FailIfSlower = None,
    image: option.Image = None,
) -> None:
    """Time single convolutions: the exact weight gradient against a method, XLA's and PyTorch's.

    Each contender is first checked against a float64 reference; where one is wrong, it prints FAIL and no time.

    \b
    approxtrain bench-kernel                              the eight shapes of the paper's Table 1
    approxtrain bench-kernel --shapes model:resnet20 --part dgrad
    approxtrain bench-kernel --shapes 128,32,32,16,16,3,1 --k 4 --json bench.json
    approxtrain bench-kernel --compare bench.json --fail-if-slower 5
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    if listing:
        from approxtrain_cli.bench_kernel_listing import show_list

        return show_list(console)
    params = option.parameters(param, k, r)
    asked = option.asked(shapes, method, params, dtype, part, implementation, cache, rounds)
    if dry_run:
        from approxtrain_cli.bench_kernel_listing import show_plan

        return show_plan(console, asked)
    _run(console, asked, _Outputs(json_file, compare, force, fail_if_slower, image))
    return None


@dataclass(frozen=True)
class _Outputs:
    """What else than a table is wanted."""

    json_file: Path | None
    compare: Path | None
    force: bool
    fail_if_slower: float | None
    image: Path | None


def _run(console: Console, asked: Asked, wanted: _Outputs) -> None:
    """Measure, print, write; exits with 1 where something is wrong or too slow."""
    from approxtrain.bench.kernel_file import Old

    if wanted.image:
        from approxtrain.bench import roofline

        roofline.check(wanted.image)
    old = Old(wanted.compare) if wanted.compare else None
    if old:
        old.check_cases(asked.cases, asked.cache.shown)
    console.print("starting jax …")
    rows, result = measure(console, asked, None if wanted.force else old)
    show(console, rows, asked.cache.shown)
    if wanted.json_file:
        from approxtrain.disk import write_json

        write_json(wanted.json_file, result)
        console.print(f"written   {wanted.json_file}")
    if wanted.image:
        from approxtrain.bench import roofline

        roofline.draw(rows, asked.cache.order[0], device_text(result["environment"]), wanted.image)
        console.print(f"image     {wanted.image}")
    changes = old.changes(rows, asked.cache.shown) if old else None
    if changes is not None:
        console.print(f"\nnow against then ({wanted.compare}), ms")
        console.print(tables.compared(changes))
    slower = _slower(rows, changes, asked.cache.shown, wanted.fail_if_slower)
    if slower:
        console.print(f"too slow  more than {wanted.fail_if_slower:g} % slower: {'; '.join(slower)}")
    if slower or any(row.wrong for row in rows):
        raise typer.Exit(1)


def measure(console: Console, asked: Asked, old: Old | None) -> tuple[list[Row], dict[str, Any]]:
    from approxtrain.bench import kernel, kernel_file, machine, torch_peer
    from approxtrain.bench.timer import best_timer
    from approxtrain.run import record

    environment = record.environment()
    console.print(f"device    {device_text(environment)}, jax {environment['versions']['jax']}")
    if environment["device_platform"] == "cpu" and any(case.precision.name == "tf32" for case in asked.cases):
        raise ConfigError("`--dtype tf32` needs an NVIDIA GPU: a CPU has no TF32. Take float32.")
    timer, torch = best_timer(), torch_peer.facts()
    name, summary = timer().name, timer().summary
    if old:
        old.check(environment, name)
    limits = machine.measure(list({case.precision.name: case.precision for case in asked.cases}.values()))
    for line in _limits(limits):
        console.print(line)
    peer = f"; PyTorch {torch['version']}, {torch['threads']} threads" if torch else "; no PyTorch"
    console.print(f"timer     {name}: {summary}{peer if environment['device_platform'] == 'cpu' else ''}")
    console.print(f"rows      {asked.what}; {asked.dtype}, {asked.rounds} interleaved rounds")
    names = kernel.names_of(asked.cases[0], torch is not None)
    guess = sum(kernel.seconds_expected(case, limits, asked.rounds, names) for case in asked.cases)
    console.print(f"expected  about {_duration(guess)} for {len(asked.cases)} of them, both caches", style="bold")
    with _progress(console) as say:
        bench = kernel.Bench(limits, timer, asked.rounds, lambda row, what: say(_where(asked, row, what)))
        rows = list(bench.run(asked.cases))
    clock = {"name": name, "summary": summary}
    caches = asked.cache.order
    return rows, kernel_file.document(asked.as_json(), environment, limits, clock, torch, rows, caches)


def show(console: Console, rows: Sequence[Row], caches: Sequence[str]) -> None:
    for part in tables.tables(rows, caches):
        console.print(part)
    console.print()
    for note in tables.notes(rows, caches):
        console.print(note, soft_wrap=False)
    for line in tables.failures(rows):
        console.print(line)
    if line := tables.pallas(rows):
        console.print(line)


def _slower(
    rows: Sequence[Row], changes: Sequence[Change] | None, caches: Sequence[str], percent: float | None
) -> list[str]:
    """The rows whose whole interval lies more than `percent` above 1."""
    from approxtrain.bench.plan import describe

    if percent is None:
        return []
    if changes is None:
        found = [(row.case, row.measured[cache].ratio) for row in rows for cache in caches if row.measured]
    else:
        found = [(change.case, change.ratio) for change in changes]
    return [
        f"{describe(case.shape)} {case.precision.name} ({ratio.low:.2f}–{ratio.high:.2f} times as long)"
        for case, ratio in found
        if ratio.low > 1 + percent / 100
    ]


def _limits(limits: Machine) -> Iterator[str]:
    rates = ", ".join(f"{name} products {rate / 1e9:.0f} GFLOP/s" for name, rate in limits.rates.items())
    yield f"measured  copy {limits.bandwidth / 1e9:.1f} GB/s, {rates}, an empty call {1e6 * limits.dispatch:.1f} µs"
    yield f"cache     {limits.cache / 2**20:.0f} MB last level, {limits.cache_is}"


def device_text(environment: dict[str, Any]) -> str:
    if environment["device_platform"] == "cpu":
        return f"cpu: {environment['processor']}, {environment['cpu_count']} cores"
    return f"{environment['device_platform']}: {environment['device']}"


def _where(asked: Asked, row: int, what: str) -> str:
    from approxtrain.bench.plan import describe

    case = asked.cases[row]
    return f"row {row + 1} of {len(asked.cases)}, {describe(case.shape)} {case.precision.name}: {what}"


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """On a terminal a line that is overwritten, elsewhere one every ten seconds."""
    spoken = time.monotonic()
    with console.status("…") as status:

        def say(text: str) -> None:
            nonlocal spoken
            status.update(f"{text} …")
            if not console.is_terminal and time.monotonic() - spoken > QUIET_SECONDS:
                spoken = time.monotonic()
                console.print(f"{text} …")

        yield say


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
