"""Table 1 in a reproduction: `bench-kernel` on the paper's shapes, and how its times grow with the sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from approxtrain.errors import ConfigError
from approxtrain_cli import bench_kernel

if TYPE_CHECKING:
    from rich.console import Console

FILE = "table1.json"


def announce(console: Console, out: Path, rounds: int) -> None:
    """Say what there is of it, or what will be measured."""
    if earlier := _earlier(out):
        device = bench_kernel.device_text(earlier["environment"])
        console.print(f"table1    measured on {device}; remove {out / FILE} to measure it anew")
    else:
        console.print(f"table1    8 shapes, {rounds} rounds, to be measured; it says at which row it is")


def run(console: Console, out: Path, rounds: int) -> bool:
    """Measure it, unless it is there, and say how its times grow. → whether all was right, now or then."""
    document = _earlier(out) or _measure(console, out, rounds)
    for where, fits in document["scaling"].items():
        console.print(f"growth    {where}: {_growth(fits)}")
    wrong = [row for row in document["rows"] if row["failed"]]
    if wrong:
        console.print(f"wrong     {len(wrong)} of {len(document['rows'])} rows; remove {out / FILE} to measure it anew")
    return not wrong


def _measure(console: Console, out: Path, rounds: int) -> dict[str, Any]:
    import jax

    from approxtrain.disk import write_json
    from approxtrain.report import table1

    dtypes = "float32,tf32,bfloat16" if jax.default_backend() == "gpu" else "float32"
    cases, options = bench_kernel.asked(["paper"], "approx", [], dtypes, "wgrad", rounds)
    console.print("\ntable1", style="bold")
    document = bench_kernel.measure(console, cases, options)
    bench_kernel.show(console, document)
    document["scaling"] = table1.fits(document["rows"]) | {"paper": table1.fit_of_paper()}
    write_json(out / FILE, document)
    console.print(f"written   {out / FILE}")
    return document


def _growth(fits: dict[str, Any]) -> str:
    parts = []
    for name in ("dense", "kernel"):
        powers = (f"{size}^{p:.2f} [{low:.2f}, {high:.2f}]" for size, (p, low, high) in fits[name]["exponents"].items())
        parts.append(f"{name} {' · '.join(powers)}")
    return f"{', '.join(parts)}: second observation {fits['second_observation']}"


def _earlier(out: Path) -> dict[str, Any] | None:
    """What was measured before."""
    from approxtrain.bench.kernel_report import SCHEMA

    path = out / FILE
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
        if (document["command"], document["schema"]) == ("bench-kernel", SCHEMA) and document["scaling"]:
            return document
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"`{path}` is no Table 1 of `approxtrain reproduce`: take it away, or choose another --out.")
