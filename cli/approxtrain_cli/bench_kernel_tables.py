"""What `bench-kernel` prints, from the document that `--json` writes: Table 1, the exact forms, the gain in a vjp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from approxtrain.bench.kernel_comparison import Change

NONE = "–"
TEXT = ("shape", "dtype", "cache", "step", "schedule", "verdict")
"""Columns of words; all others are numbers."""

Row = Mapping[str, Any]
"""A row of the document; or its times with the other cache, where only times are asked for."""


def tables(rows: Sequence[Row]) -> Iterator[str | Table]:
    """For each precision Table 1 with cold and with hot inputs, and what else was timed cold, a line above each."""
    for name in dict.fromkeys(row["dtype"] for row in rows):
        alike = [row for row in rows if row["dtype"] == name]
        timed = [row for row in alike if row["milliseconds"]]
        yield f"\n{name}, cold cache"
        yield table_1(alike)
        if timed:
            yield f"\n{name}, hot cache"
            yield table_1([row | row["also"]["hot"] for row in timed])
            yield f"\nexact forms, ms: {name}, cold cache"
            yield others(timed)
        if in_a_vjp := [row for row in timed if row["vjp_saves_ms"]]:
            yield f"\ninput and weight gradient in one jitted vjp, ms: {name}, cold cache"
            yield both_gradients(in_a_vjp)


def table_1(rows: Sequence[Row]) -> Table:
    """One line a shape; where a check failed, no time is shown."""
    dense = "other" if subject(rows[0]) == "ours" else "dense"
    table = headed(
        "shape", dense, "kernel", "layout", "total", "speed-up", "spread", "GB/s", "share", "error", "verdict"
    )
    for row in rows:
        name = subject(row)
        if not row["milliseconds"]:
            name = name if name in row["failed"] else row["failed"][0]
            error = f"{float(row['relative_error'][name]):.0e}"
            table.add_row(describe(row["shape"]), *[""] * 4, f"{name} wrong", *[""] * 3, error, "FAIL")
            continue
        total, layout = _median(row, name), row["layout_milliseconds"].get(name)
        cost, ratio = row["contenders"][name], row["ratio"]
        table.add_row(
            describe(row["shape"]),
            _ms(_median(row, row["base_is"])),
            _ms(total - (median(layout) if layout else 0)),
            _ms(median(layout)) if layout else "none",
            _ms(total),
            _times_faster(ratio),
            f"{ratio['spread']:.0%}",
            f"{cost['gb_s']:.3g}" if cost["bytes"] else NONE,
            f"{cost['share_of_bandwidth']:.0%}" if cost["bytes"] else NONE,
            f"{row['relative_error'][name]:.0e}",
            ratio["verdict"],
        )
    return table


def others(rows: Sequence[Row]) -> Table:
    """The exact forms side by side; our time over PyTorch's faster one, or over XLA's where there is no PyTorch."""
    names = [
        name for name in ("ours", "xla", "torch nchw", "torch nhwc") if any(name in r["milliseconds"] for r in rows)
    ]
    peer = "torch" if "torch" in names[-1] else "xla"
    table = headed("shape", *names, f"ours/{peer}", "verdict")
    for row in rows:
        ratio = next((ratio for name, ratio in row["ratios"].items() if name.startswith(f"ours/{peer}")), None)
        missing = {name: "wrong" if name in row["failed"] else NONE for name in names}
        times = missing | {name: _ms(_median(row, name)) for name in names if name in row["milliseconds"]}
        table.add_row(describe(row["shape"]), *times.values(), interval(ratio), ratio["verdict"] if ratio else NONE)
    return table


def both_gradients(rows: Sequence[Row]) -> Table:
    """Where a training step meets the method: what it saves there."""
    table = headed("shape", "full", "method", "saves", "speed-up", "spread", "verdict")
    for row in rows:
        saves, ratio = row["vjp_saves_ms"], row["ratios"]["vjp method/vjp full"]
        saved = f"{saves['value']:.3g} ({saves['low']:.3g} to {saves['high']:.3g})"
        times = (_ms(_median(row, name)) for name in ("vjp full", "vjp method"))
        end = (_times_faster(ratio), f"{ratio['spread']:.0%}", ratio["verdict"])
        table.add_row(describe(row["shape"]), *times, saved, *end)
    return table


def compared(changes: Iterable[Change]) -> Table:
    """Old and new time of the subject."""
    table = headed("shape", "dtype", "cache", "then", "now", "now/then", "spread", "verdict")
    for row, cache, then, now, ratio in changes:
        end = (interval(ratio, 3), f"{ratio['spread']:.0%}", ratio["verdict"])
        table.add_row(describe(row["shape"]), row["dtype"], cache, _ms(then), _ms(now), *end)
    return table


def limits(machine: Mapping[str, Any]) -> str:
    """What the machine can do, in two lines."""
    rates = ", ".join(f"{name} products {rate:.0f} GFLOP/s" for name, rate in machine["gflop_s"].items())
    dispatch = f"an empty call {machine['dispatch_us']:.1f} µs"
    cache = f"{machine['last_level_cache_bytes'] / 2**20:.0f} MB last level, {machine['last_level_cache']}"
    return f"measured  copy {machine['bandwidth_gb_s']:.1f} GB/s, {rates}, {dispatch}\ncache     {cache}"


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """What has to be known to read the tables, and what of it applies."""
    from approxtrain.bench.timing import FEWEST_ROUNDS

    rows = [row for row in document["rows"] if row["milliseconds"]]
    if not rows:
        return
    yield (
        "Times are medians in ms; speed-up is how many times faster, with its 95 % interval; spread is the quartile "
        "range over the median; share is of the bandwidth measured above; errors are against float64."
    )
    if not rows[0]["exact_dgrad"]:
        yield (
            "This method approximates the gradient of the input as well: the first table times its weight gradient "
            "alone, the jitted vjp has both."
        )
    by_wall_clock = [row for row in rows if subject(row) not in row["layout_milliseconds"]]
    if len(by_wall_clock) == len(rows):
        yield "layout: none, NHWC in and HWIO out; what a program moves inside is in its time."
    if small := [describe(row["shape"]) for row in rows if not row["sets_evict_each_other"]]:
        few = small[0] if len(small) == 1 else f"{small[0]} and {len(small) - 1} more"
        yield f"Not cold, because {few} cannot fill the cache with {max(row['sets'] for row in rows)} sets of inputs."
    empty = document["machine"]["dispatch_us"] / 1e3
    shares = [(empty / _median(row, subject(row)), describe(row["shape"])) for row in by_wall_clock]
    if shares and max(shares)[0] > 0.01:
        share, name = max(shares)
        yield f"An empty call takes {share:.0%} of the time of {name}: it is in all times, and hides some of the ratio."
    if any(times["ratio"]["verdict"] == "NOISY" for row in rows for times in (row, row["also"]["hot"])):
        yield "NOISY: the times do not tell. More --rounds, or a quieter machine, may."
    if any(row["ratio"]["rounds"] < FEWEST_ROUNDS for row in rows):
        yield f"Fewer than {FEWEST_ROUNDS} rounds give no 95 % interval, so every verdict is NOISY."


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """One line for each contender that was wrong."""
    for row in rows:
        for name in row["failed"]:
            error = f"error {float(row['relative_error'][name]):.0e}, allowed {row['tolerance']:.0e}"
            yield f"wrong     {where(row)}, {name}: {error}"


def subject(row: Row) -> str:
    """What the row is about: the method, or our exact form."""
    return "ours" if row["method"] == "full" else "method"


def describe(shape: Mapping[str, Any]) -> str:
    """ "256→256 8×8 k3 s1"."""
    channels = f"{shape['in_channels']}→{shape['out_channels']}"
    return f"{channels} {shape['height']}×{shape['width']} k{shape['kernel_size'][0]} s{shape['strides'][0]}"


def where(row: Row) -> str:
    return f"{describe(row['shape'])} {row['dtype']}"


def wide_console(width: int) -> Console:
    """One that cuts off no table of this width where the output is no terminal, or a narrow one."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, width)
    return console


def headed(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, justify="left" if header in TEXT else "right", no_wrap=True)
    return table


def _median(row: Row, name: str) -> float:
    return median(row["milliseconds"][name])


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:#.3g}"


def _times_faster(ratio: Mapping[str, Any]) -> str:
    return f"{1 / ratio['value']:.2f} ({1 / ratio['high']:.2f}–{1 / ratio['low']:.2f})"


def interval(ratio: Mapping[str, Any] | None, digits: int = 2) -> str:
    return NONE if ratio is None else "{value:.{0}f} ({low:.{0}f}–{high:.{0}f})".format(digits, **ratio)
