"""Whether our own convolutions of a CPU are still worth having: their times beside those of XLA's, layer by layer.

    python tools/native_worth.py --json worth.json
    python tools/native_worth.py --shapes "32,8,8,16,16,3,1;32,8,8,16,32,3,2" --rounds 3

Forward, dgrad and wgrad of the 17 layers of docs/cpu.md, float32, by `native` and by `canonical`, which is XLA's own in
its fastest form. Both take turns, and each time is a median over the rounds. The last line is the verdict of
docs/native.md: XLA within LIMIT times on every layer, and `native` may be deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from approxtrain_kernels import canonical, native, shapes
from approxtrain_kernels.geometry import ConvShape

import jax  # isort: skip  # after the package, which sets XLA's flags

LIMIT = 1.3
KINDS = {"forward": ("x", "w"), "dgrad": ("dy", "w"), "wgrad": ("x", "dy")}
NETWORKS = (
    "128,32,32,3,64,5,1",  # CNN2
    "128,16,16,64,64,5,1",
    "128,32,32,3,64,3,1",  # VGG-19
    "128,16,16,64,128,3,1",
    "128,8,8,128,256,3,1",
    "128,4,4,256,512,3,1",
    "128,32,32,3,16,3,1",  # ResNet-20
    "128,32,32,16,32,3,2",
    "128,16,16,32,64,3,2",
)
"""What the networks have beside the eight shapes of the paper's Table 1."""
SAMPLE_SECONDS = 0.1
"""A sample is as many calls as last about that long."""
CACHE_BYTES = 2**27
"""Inputs are taken in turn out of sets of so many bytes together, so that they come from memory."""
MOST_SETS = 16


def main() -> None:
    arguments = parsed()
    if not native.available():
        raise SystemExit(f"There is no code of our own here: {native.refusal()}.")
    layers = [*shapes.PAPER, *map(shapes.parse, NETWORKS)]
    if arguments.shapes:
        layers = [shapes.parse(text) for text in arguments.shapes.split(";")]
    rows = [row for layer in layers for row in measured(layer, arguments.rounds)]
    worst = max(rows, key=lambda row: row["ratio"])
    summary = {
        "machine": {"processor": processor(), "threads": len(os.sched_getaffinity(0)), "native": native.described()},
        "versions": {"jax": jax.__version__, "jaxlib": jax.lib.__version__, "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
        "rounds": arguments.rounds,
        "limit": LIMIT,
        "largest": worst,
        "may_be_deleted": worst["ratio"] <= LIMIT,
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    above = sum(row["ratio"] > LIMIT for row in rows)
    print(f"XLA takes up to {worst['ratio']:.2f} times as long as native: {worst['kind']} of {worst['layer']}.")
    print(f"{above} of {len(rows)} are above {LIMIT}: " + ("native stays." if above else "native may be deleted."))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (9)")
    parser.add_argument("--shapes", help='other layers, "N,H,W,Ci,Co,K,S;…"')
    parser.add_argument("--json", type=Path, help="where to write all times")
    return parser.parse_args()


def measured(layer: ConvShape, rounds: int) -> list[dict[str, Any]]:
    """A row for each of forward, dgrad and wgrad."""
    rows = []
    for kind, names in KINDS.items():
        sets = inputs(layer, names)
        runs = {
            of: jax.jit(partial(getattr(module, kind), shape=layer))
            for of, module in (("native", native), ("xla", canonical))
        }
        ours, xla = (np.asarray(run(*sets[0])) for run in runs.values())
        if np.abs(ours - xla).max() > 1e-4 * np.abs(xla).max():
            raise SystemExit(f"{kind} of {layer}: native and XLA differ; what is wrong needs no timing.")
        calls = {of: enough(run, sets) for of, run in runs.items()}
        times: dict[str, list[float]] = {of: [] for of in runs}
        for turn in range(rounds):
            for of in sorted(runs, reverse=bool(turn % 2)):
                times[of].append(1e3 * sample(runs[of], sets, calls[of]))
        middle = {of: median(taken) for of, taken in times.items()}
        name = f"{layer.in_channels}→{layer.out_channels}, {layer.height}×{layer.width}"
        name += f", k{layer.kernel_size[0]}, s{layer.strides[0]}, batch {layer.batch}"
        rows.append({"kind": kind, "layer": name, "ratio": middle["xla"] / middle["native"], "milliseconds": times})
        line = f"{name:<34} {kind:<8} native {middle['native']:8.2f} ms   XLA {middle['xla']:8.2f} ms"
        print(f"{line}   {rows[-1]['ratio']:6.2f}", flush=True)
    return rows


def inputs(layer: ConvShape, names: tuple[str, ...]) -> list[list[jax.Array]]:
    sizes = {"x": layer.x_shape, "w": layer.w_shape, "dy": layer.y_shape}
    rng = np.random.default_rng(0)
    size = sum(4 * int(np.prod(sizes[name])) for name in names)
    many = min(max(ceil(CACHE_BYTES / size), 1), MOST_SETS)
    return [[jax.device_put(rng.standard_normal(sizes[name], np.float32)) for name in names] for _ in range(many)]


def enough(run: Callable, sets: list[list[jax.Array]]) -> int:
    """Calls that last SAMPLE_SECONDS."""
    sample(run, sets, 1)
    return max(ceil(SAMPLE_SECONDS / sample(run, sets, 3)), 1)


def sample(run: Callable, sets: list[list[jax.Array]], calls: int) -> float:
    """Seconds a call, each of which is waited for."""
    run(*sets[-1]).block_until_ready()  # what the contender before left in the caches is not this one's doing
    start = time.perf_counter()
    for call in range(calls):
        run(*sets[call % len(sets)]).block_until_ready()
    return (time.perf_counter() - start) / calls


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
