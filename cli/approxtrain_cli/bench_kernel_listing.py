"""`bench-kernel --list` and `--dry-run`: what can be measured, and what would be. Neither imports jax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from approxtrain_cli.bench_kernel_options import Asked


def show_list(console: Console) -> None:
    """Everything that the options take."""
    from approxtrain import models
    from approxtrain.bench import plan

    methods = [
        (method.name, ", ".join(f"{field.name}={field.default}" for field in method.parameters()) or "no parameter")
        for method in plan.methods()
    ]
    groups = {
        "--part": list(plan.PARTS.items()),
        "--shapes": [
            ("paper", "the eight shapes of the paper's Table 1, batch 128"),
            ("model:NAME", f"the convolutions of {', '.join(models.names())}, batch 128"),
            ("N,H,W,Ci,Co,K,S", "images, height, width, channels in and out, kernel, stride; padding SAME"),
        ],
        "--method": methods,
        "--dtype": [(each.name, each.summary) for each in plan.PRECISIONS.values()],
        "--cache": list(plan.CACHES.items()),
        "contenders": list(plan.CONTENDERS.items()),
    }
    for number, (header, rows) in enumerate(groups.items()):
        if number:
            console.print()
        console.print(_two_columns(header, rows))


def show_plan(console: Console, asked: Asked) -> None:
    """The rows with what they cost, counted."""
    from rich.table import Table

    from approxtrain.bench.plan import describe

    console.print(f"would measure {asked.what}")
    console.print(f"{asked.dtype}, {asked.rounds} interleaved rounds, cold and hot cache")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    headers = ("shape", "batch", "dtype", "dense GFLOP", "dense MB", "method GFLOP", "method MB")
    for header in headers if asked.cases[0].subject == "method" else headers[:5]:
        table.add_column(header, justify="left" if header in ("shape", "dtype") else "right", no_wrap=True)
    for case in asked.cases:
        names = ("ours", "method") if case.subject == "method" else ("ours",)
        cost = [number for name in names for number in _cost(case.cost(name))]
        table.add_row(describe(case.shape), str(case.shape.batch), case.precision.name, *cost)
    console.print(table)
    console.print(f"contenders  {', '.join(_contenders(asked))}")
    console.print("GFLOP and MB are counted, not measured: operations, and what has to be moved at least.")


def _contenders(asked: Asked) -> Iterator[str]:
    from importlib.util import find_spec

    from approxtrain.bench.plan import CONTENDERS

    for name in CONTENDERS:
        if name.startswith("torch") and find_spec("torch") is None:
            continue
        if name.endswith(("method", "full")) and asked.cases[0].subject == "ours":
            continue
        yield name


def _cost(cost: tuple[float, float]) -> tuple[str, str]:
    return f"{cost[0] / 1e9:.3f}", f"{cost[1] / 1e6:.2f}"


def _two_columns(header: str, rows: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table

    table = Table(header, "", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    return table
