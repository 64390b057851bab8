"""Table 1 in a reproduction: `bench-kernel` on the paper's shapes, once for a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from approxtrain.errors import ConfigError
from approxtrain_cli import bench_kernel

if TYPE_CHECKING:
    from rich.console import Console

FILE = "table1.json"


def run(console: Console, out: Path, rounds: int, dry_run: bool) -> bool:
    """Say what there is of it; if there is nothing, and this is no dry run, measure it. → whether all was right."""
    path, document = out / FILE, _earlier(out)
    if document:
        device = bench_kernel.device_text(document["environment"])
        console.print(f"table1    measured on {device}; remove {path} to measure it anew")
    elif dry_run:
        console.print(f"table1    8 shapes, {rounds} rounds, to be measured")
        return True
    else:
        document = _measure(console, path, rounds)
    wrong = [row for row in document["rows"] if row["failed"]]
    if wrong:
        console.print(f"wrong     {len(wrong)} of {len(document['rows'])} rows; remove {path} to measure it anew")
    return not wrong


def _measure(console: Console, path: Path, rounds: int) -> dict[str, Any]:
    import jax

    from approxtrain.disk import write_json

    dtypes = "float32,tf32,bfloat16" if jax.default_backend() == "gpu" else "float32"
    cases, options = bench_kernel.asked(["paper"], "approx", [], dtypes, "wgrad", rounds)
    console.print(f"\ntable1, 8 shapes, {rounds} rounds; it says at which row it is", style="bold")
    document = bench_kernel.measure(console, cases, options)
    bench_kernel.show(console, document)
    write_json(path, document)
    console.print(f"written   {path}")
    return document


def _earlier(out: Path) -> dict[str, Any] | None:
    """What was measured before."""
    from approxtrain.bench.kernel_report import SCHEMA

    path = out / FILE
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
        if (document["command"], document["schema"]) == ("bench-kernel", SCHEMA):
            return document
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"`{path}` is no Table 1 of `approxtrain reproduce`: take it away, or choose another --out.")
