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


def ms(row: dict[str, Any], *names: str) -> float:
    """The smallest median of these contenders."""
    return min(median(row["milliseconds"][name]) for name in names)


def against_torch(row: dict[str, Any]) -> str:
    """Time over PyTorch's with its interval, and the verdict where there is no claim."""
    (found,) = [ratio for name, ratio in row["ratios"].items() if name.startswith("ours/torch")]
    text = f"{found['value']:.2f} ({found['low']:.2f}–{found['high']:.2f})"
    return text + (" noisy" if found["verdict"] == "NOISY" else "")


def faster(row: dict[str, Any]) -> str:
    found = row["ratio"]
    text = f"{1 / found['value']:.2f} ({1 / found['high']:.2f}–{1 / found['low']:.2f})"
    return text + (" noisy" if found["verdict"] == "NOISY" else "")


def exact(part: str, found: list[dict[str, Any]]) -> Iterator[str]:
    yield f"| {part} | ours | XLA | PyTorch | ours / PyTorch |"
    yield "| --- | --- | --- | --- | --- |"
    for row in found:
        torch = ms(row, "torch nchw", "torch nhwc")
        yield f"| {layer(row)} | {ms(row, 'ours'):.2f} | {ms(row, 'xla'):.2f} | {torch:.2f} | {against_torch(row)} |"


def methods(approx: list[dict[str, Any]], pooled: list[dict[str, Any]]) -> Iterator[str]:
    yield "| weight gradient | `approx` | times faster | `pooled`, r = 2 | times faster |"
    yield "| --- | --- | --- | --- | --- |"
    for one, other in zip(approx, pooled, strict=True):
        assert layer(one) == layer(other)
        cells = (layer(one), f"{ms(one, 'method'):.2f}", faster(one), f"{ms(other, 'method'):.2f}", faster(other))
        yield f"| {' | '.join(cells)} |"


def tables() -> str:
    approx, pooled = rows("paper") + rows("networks"), rows("pooled-paper") + rows("pooled-networks")
    parts = (
        methods(approx, pooled),
        exact("weight gradient", approx),
        exact("forward", rows("forward")),
        exact("input gradient", rows("dgrad")),
    )
    return "\n\n".join("\n".join(part) for part in parts)


if __name__ == "__main__":
    print(tables())
