"""What `bench-kernel` prints: Table 1, the others' times, the gain inside of a vjp, and old against new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from approxtrain.bench.kernel_file import Change
    from approxtrain.bench.kernel_row import Row
    from approxtrain.bench.measured import Measured
    from approxtrain.bench.timing import Ratio

NONE = "–"


def tables(rows: Sequence[Row], caches: Sequence[str]) -> Iterator[str | Table]:
    """For each precision and cache, its tables, with a line above each."""
    names = list(dict.fromkeys(row.case.precision.name for row in rows))
    for name in names:
        those = [row for row in rows if row.case.precision.name == name]
        for cache in caches:
            yield f"\n{name}, {cache} cache"
            yield table_1(those, cache)
            yield f"\nexact forms, ms: {name}, {cache} cache"
            yield others(those, cache)
            if any("vjp method" in row.measured[cache].times for row in those if row.measured):
                yield f"\ninput and weight gradient in one jitted vjp, ms: {name}, {cache} cache"
                yield felt(those, cache)


def table_1(rows: Sequence[Row], cache: str) -> Table:
    """One line a shape; where a check failed, no time is shown."""
    dense = "dense" if rows[0].case.subject == "method" else "other"
    table = _table(
        "shape", dense, "kernel", "layout", "total", "speed-up", "spread", "GB/s", "share", "error", "verdict"
    )
    for row in rows:
        if not row.measured:
            name = _wrong(row)
            table.add_row(_shape(row), *[""] * 4, f"{name} wrong", *[""] * 3, f"{row.errors[name]:.0e}", "FAIL")
            continue
        found = row.measured[cache]
        subject, layout = row.case.subject, found.layout
        total = found.subject.median
        table.add_row(
            _shape(row),
            _ms(found.base.median),
            _ms(total - (layout or 0)),
            "none" if layout is None else _ms(layout),
            _ms(total),
            _times_faster(found.ratio),
            f"{found.ratio.spread:.0%}",
            *_bandwidth(found),
            f"{row.errors[subject]:.0e}",
            found.ratio.verdict,
        )
    return table


def others(rows: Sequence[Row], cache: str) -> Table:
    """The exact forms side by side; our time over PyTorch's faster one, or over XLA's where there is no PyTorch."""
    torch = any(found.torch_is for found in _measured(rows, cache))
    names = ["ours", "xla", *(("torch nchw", "torch nhwc") if torch else ())]
    table = _table("shape", *names, "ours/torch" if torch else "ours/xla", "verdict")
    for row in rows:
        if not row.measured:
            continue
        found = row.measured[cache]
        ratio = found.ratios.get(f"ours/{found.torch_is if torch else 'xla'}")
        times = [
            "wrong" if name in row.failed else _ms(found.times[name].median) if name in found.times else NONE
            for name in names
        ]
        against = f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})" if ratio else NONE
        table.add_row(_shape(row), *times, against, ratio.verdict if ratio else NONE)
    return table


def felt(rows: Sequence[Row], cache: str) -> Table:
    """Where a training step meets the method: what it saves there."""
    table = _table("shape", "full", "method", "saves", "speed-up", "spread", "verdict")
    for row in rows:
        if not row.measured:
            continue
        found = row.measured[cache]
        saves, ratio = found.vjp_saves, found.ratios.get("vjp method/vjp full")
        if saves is None or ratio is None:
            continue
        value, low, high = (1e3 * seconds for seconds in saves)
        table.add_row(
            _shape(row),
            *(_ms(found.times[name].median) for name in ("vjp full", "vjp method")),
            f"{value:.3g} ({low:.3g} to {high:.3g})",
            _times_faster(ratio),
            f"{ratio.spread:.0%}",
            ratio.verdict,
        )
    return table


def compared(changes: Sequence[Change]) -> Table:
    """Old and new time of the subject."""
    table = _table("shape", "dtype", "cache", "then", "now", "now/then", "spread", "verdict")
    for change in changes:
        ratio = change.ratio
        table.add_row(
            _shape(change),
            change.case.precision.name,
            change.cache,
            _ms(change.old.median),
            _ms(change.new.median),
            f"{ratio.value:.3f} ({ratio.low:.3f}–{ratio.high:.3f})",
            f"{ratio.spread:.0%}",
            ratio.verdict,
        )
    return table


def notes(rows: Sequence[Row], caches: Sequence[str]) -> Iterator[str]:
    """What has to be known to read the tables, and what of it applies."""
    from approxtrain.bench.timing import FEWEST_ROUNDS

    shown = [found for cache in caches for found in _measured(rows, cache)]
    if not shown:
        return
    yield (
        "Times are medians in ms; speed-up is how many times faster, with its 95 % interval; spread is the quartile "
        "range over the median; share is of the bandwidth measured above; errors are against float64."
    )
    if not shown[0].case.method.exact_dgrad:
        yield (
            "This method approximates the gradient of the input as well: the first table times its weight gradient "
            "alone, the jitted vjp has both."
        )
    if all(found.layout is None for found in shown):
        yield "layout: none, NHWC in and HWIO out; what a program moves inside is in its time."
    small = [name for found in shown if found.cache == "cold" and not found.evicts for name in [_shape(found)]]
    if small:
        yield f"Not cold, because {_few(small)} cannot fill the cache with {max(f.sets for f in shown)} sets of inputs."
    clocked = [found for found in shown if found.layout is None]  # CUPTI sees kernels and no calls
    shares = [(found.machine.dispatch / found.subject.median, _shape(found)) for found in clocked]
    if shares and max(shares)[0] > 0.01:
        share, name = max(shares)
        yield f"An empty call takes {share:.0%} of the time of {name}: it is in all times, and hides some of the ratio."
    if any(found.ratio.verdict == "NOISY" for found in shown):
        yield "NOISY: the times do not tell. More --rounds, or a quieter machine, may."
    if any(found.ratio.rounds < FEWEST_ROUNDS for found in shown):
        yield f"Fewer than {FEWEST_ROUNDS} rounds give no 95 % interval, so every verdict is NOISY."


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """One line for each contender that was wrong."""
    for row in rows:
        for name in row.failed:
            error, limit = row.errors[name], row.case.precision.tolerance
            yield f"wrong     {_shape(row)} {row.case.precision.name}, {name}: error {error:.0e}, allowed {limit:.0e}"


def pallas(rows: Sequence[Row]) -> str | None:
    """The line on the kernels that a CPU can only interpret."""
    found = [row for row in rows if row.interpreted]
    if not found:
        return None
    failed = [row for row in found if row.interpreted and row.interpreted["failed"]]
    if failed:
        row = failed[0]
        detail = row.interpreted or {}
        why = detail["why"] or f"error {detail['relative_error']}"
        return f"pallas    interpreted: FAIL, {len(failed)} of {len(found)} rows, first {_shape(row)}: {why}"
    worst = max(float(row.interpreted["relative_error"]) for row in found if row.interpreted)
    return f"pallas    interpreted: correctness only, no time; largest error {worst:.0e} in {len(found)} rows"


def _table(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in headers:
        left = header in ("shape", "verdict", "dtype", "cache")
        table.add_column(header, justify="left" if left else "right", no_wrap=True)
    return table


def _measured(rows: Sequence[Row], cache: str) -> list[Measured]:
    return [row.measured[cache] for row in rows if row.measured]


def _shape(of: Row | Measured | Change) -> str:
    from approxtrain.bench.plan import describe

    return describe(of.case.shape)


def _wrong(row: Row) -> str:
    """The contender that a failed row is blamed on: its subject if that is wrong."""
    return row.case.subject if row.case.subject in row.failed else row.failed[0]


def _times_faster(ratio: Ratio) -> str:
    return f"{1 / ratio.value:.2f} ({1 / ratio.high:.2f}–{1 / ratio.low:.2f})"


def _ms(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _bandwidth(found: Measured) -> tuple[str, str]:
    """Of the subject, and as a share; nothing of a method that has nothing to move."""
    bandwidth = found.bandwidth(found.case.subject)
    return (f"{bandwidth / 1e9:.3g}", f"{bandwidth / found.machine.bandwidth:.0%}") if bandwidth else (NONE, NONE)


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
