"""Prints the tables of docs/cpu.md from results/bench. A test holds the page against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

BENCH = Path(__file__).resolve().parents[2] / "results" / "bench"


def rows(name: str) -> list[dict[str, Any]]:
    return json.loads((BENCH / f"kernel-{name}-cpu.json").read_text("utf-8"))["rows"]


def layer(row: dict[str, Any]) -> str:
    shape = row["shape"]
    kernel, stride = shape["kernel_size"][0], shape["strides"][0]
    size = f"{shape['in_channels']}→{shape['out_channels']}, {shape['height']}×{shape['width']}"
    return size + (f", k{kernel}" if kernel != 3 else "") + (f", s{stride}" if stride != 1 else "")


def ms(row: dict[str, Any], *names: str) -> str:
    """The smallest median of these contenders."""
    return f"{min(median(row['milliseconds'][name]) for name in names):.2f}"


def interval(ratio: dict[str, Any], *, inverse: bool = False) -> str:
    """A time over another with its interval, or how many times as fast; and whether there is no claim."""
    bounds = (
        [1 / ratio[key] for key in ("value", "high", "low")]
        if inverse
        else [ratio[k] for k in ("value", "low", "high")]
    )
    return "{:.2f} ({:.2f}–{:.2f})".format(*bounds) + (" noisy" if ratio["verdict"] == "NOISY" else "")


def exact(part: str, measured: list[dict[str, Any]]) -> Iterator[str]:
    yield f"| {part} | ours | XLA | PyTorch | ours / PyTorch |"
    yield "| --- | --- | --- | --- | --- |"
    for row in measured:
        (over,) = (ratio for name, ratio in row["ratios"].items() if name.startswith("ours/torch"))
        times = (ms(row, "ours"), ms(row, "xla"), ms(row, "torch nchw", "torch nhwc"))
        yield f"| {' | '.join((layer(row), *times, interval(over)))} |"


def methods(approx: list[dict[str, Any]], pooled: list[dict[str, Any]]) -> Iterator[str]:
    yield "| weight gradient | `approx` | times faster | `pooled`, r = 2 | times faster |"
    yield "| --- | --- | --- | --- | --- |"
    for pair in zip(approx, pooled, strict=True):
        assert layer(pair[0]) == layer(pair[1])
        cells = (text for row in pair for text in (ms(row, "method"), interval(row["ratio"], inverse=True)))
        yield f"| {' | '.join((layer(pair[0]), *cells))} |"


if __name__ == "__main__":
    approx = rows("paper") + rows("networks")
    print("\n".join(methods(approx, rows("pooled-paper") + rows("pooled-networks"))))
    for part, measured in (
        ("weight gradient", approx),
        ("forward", rows("forward")),
        ("input gradient", rows("dgrad")),
    ):
        print("\n" + "\n".join(exact(part, measured)))
