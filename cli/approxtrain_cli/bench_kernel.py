"""`approxtrain bench-kernel`: the paper's Table 1, on this device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from approxtrain.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from approxtrain.bench.kernel import Row
    from approxtrain_kernels import ConvShape, Method


def bench_kernel(
    shapes: Annotated[
        str, typer.Option(help="paper, model:NAME (its convolutions at batch 128), or N,H,W,Ci,Co,K,S.")
    ] = "paper",
    method: Annotated[str, typer.Option(help="Method to hold against the dense weight gradient.")] = "approx",
    k: Annotated[int | None, typer.Option(help="The method's parameter k.", min=1)] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    rounds: Annotated[int, typer.Option(help="Times that each contender is timed, interleaved.", min=3)] = 20,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every sample and the environment here.")
    ] = None,
) -> None:
    """Time the weight gradient of single convolutions: dense against a method.

    Each shape is first checked against a float64 reference; one that fails prints FAIL and no time.

    \b
    approxtrain bench-kernel                              the eight shapes of the paper's Table 1
    approxtrain bench-kernel --shapes model:resnet20
    approxtrain bench-kernel --shapes 128,32,32,16,16,3,1 --k 4 --json bench.json
    """
    chosen, rule = _shapes(shapes), _method(method, k)
    if dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"`--dtype` (={dtype!r}) must be float32 or bfloat16.")
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print("starting jax …")
    rows, environment = _measure(console, chosen, rule, dtype, rounds)
    console.print(_table(rows))
    console.print(
        "Times are medians in ms; speed-up is dense over method, with the 95 % interval; errors against float64."
    )
    if json_file:
        from approxtrain.disk import write_json

        result = {"command": "bench-kernel", "shapes": shapes, "method": rule.label, "dtype": dtype}
        write_json(json_file, result | {"environment": environment, "rows": [row.as_json() for row in rows]})
        console.print(f"written   {json_file}")
    if any(row.failed for row in rows):
        raise typer.Exit(1)


def _measure(
    console: Console, shapes: tuple[ConvShape, ...], rule: Method, dtype: str, rounds: int
) -> tuple[list[Row], dict[str, Any]]:
    from approxtrain import record
    from approxtrain.bench import kernel

    environment = record.environment()
    console.print(
        f"{environment['device_platform']}: {environment['processor']}, {environment['cpu_count']} cores, jax "
        f"{environment['versions']['jax']}"
    )
    console.print(
        f"the method {rule.label} against the dense weight gradient; {dtype}, {rounds} interleaved rounds, hot cache, "
        "wall clock"
    )
    rows = []
    with console.status("checking and timing …") as status:
        for row in kernel.run(shapes, rule, dtype, rounds):
            rows.append(row)
            status.update(f"{len(rows)} of {len(shapes)} shapes done …")
    return rows, environment


def _shapes(text: str) -> tuple[ConvShape, ...]:
    from approxtrain import models
    from approxtrain_kernels.shapes import BATCH, PAPER, parse

    try:
        if text == "paper":
            return PAPER
        if text.startswith("model:"):
            from dataclasses import replace

            layers = models.get(text.removeprefix("model:")).layers
            return tuple(dict.fromkeys(replace(layer.shape, batch=BATCH) for layer in layers))
        return (parse(text),)
    except ValueError as error:
        raise ConfigError(f"`--shapes`: {error}") from None


def _method(name: str, k: int | None) -> Method:
    from approxtrain_kernels.methods import make

    try:
        rule = make(name, **({} if k is None else {"k": k}))
    except ValueError as error:
        raise ConfigError(f"`--method`: {error}") from None
    if "key" in rule.needs:
        raise ConfigError(f"`--method` (={name!r}) draws numbers: there is no exact value to check it against.")
    return rule


def _table(rows: list[Row]) -> Table:
    """One line a shape, at most 80 columns; where a check failed, no time is shown."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("shape", "dense", "method", "speed-up", "spread", "error", "verdict"):
        table.add_column(header, justify="left" if header in ("shape", "verdict") else "right", no_wrap=True)
    for row in rows:
        shape, found = row.shape, row.ratio
        what = (
            f"{shape.in_channels}→{shape.out_channels} {shape.height}×{shape.width} "
            f"k{shape.kernel_size[0]} s{shape.strides[0]}"
        )
        if row.times is None or found is None:
            error = f"{row.errors[row.failed[0]]:.0e}"
            table.add_row(what, "", "", f"{', '.join(row.failed)} wrong", "", error, "FAIL")
            continue
        dense, method = (f"{1e3 * row.times[name].median:.2f}" for name in ("dense", "method"))
        speed = f"{1 / found.value:.2f} ({1 / found.high:.2f}–{1 / found.low:.2f})"
        error = f"{row.errors['method']:.0e}"
        table.add_row(what, dense, method, speed, f"{found.spread:.0%}", error, found.verdict)
    return table
