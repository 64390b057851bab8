"""One stage of `make gpu-bench`, on its own:

    python tools/gpu_measure.py STAGE --json FILE [--data FOLDER --name NAME]

The JSON is written again after each row, so that it holds what was measured when time ran out. Exits with 1 where
something was wrong. Needs a GPU; APPROXTRAIN_ANY_DEVICE=1 lets it run on what there is, to try the program out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "cli"), str(ROOT / "kernels")]

NETWORKS = ("cnn2-full", "resnet20-full", "vgg19-full", "resnet14-full")
"""Presets: the network with its batch."""


def facts(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from tools.gpu.facts import facts

    found = facts()
    yield found | {"right": all(row["right"] for row in found["eager"])}


def right(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from tools.gpu import right

    yield from right.run()


def forms(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from approxtrain_kernels.shapes import PAPER
    from tools.gpu import forms

    yield from forms.run(PAPER, ("float32", "bfloat16", "tf32"))


def steps(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from approxtrain.config import load
    from tools.gpu.steps import MethodBench

    for preset in NETWORKS:
        yield MethodBench(load(preset, ["data.name=shapes"])).compare(rounds=12)


def train(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from approxtrain.config import load
    from tools.gpu.train import Comparison, distance

    overrides = [f"data.dir={options.data}", f"data.name={options.name}", "train.epochs=2"]
    comparison, runs = Comparison(load("resnet20-schedule1-approx", overrides)), []
    for implementation in ("pallas", "xla"):
        runs.append(comparison.run(implementation))
        yield runs[-1] | {"data": comparison.data}
    yield {"distance": distance(runs)}


def drift(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from approxtrain.config import load
    from tools.gpu.train import Comparison

    overrides = [f"data.dir={options.data}", f"data.name={options.name}"]
    for preset in ("resnet20-full", "resnet20-schedule1-approx"):
        comparison = Comparison(load(preset, overrides))
        yield {"preset": preset, "data": comparison.data} | comparison.drift()


def throughput(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from tools.gpu import throughput

    ways = ("host", "scan") if os.environ.get("XLA_FLAGS") else ("host", "scan", "switch", "seeds", "approx")
    yield from throughput.run("resnet20-full", ("float32", "bfloat16"), ways)


def cuts(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from approxtrain_kernels.shapes import PAPER
    from tools.gpu import cuts

    yield from cuts.run([PAPER[place] for place in (0, 1, 4, 7)], ("tf32", "bfloat16"))


def small(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What compute-sanitizer looks at: each form once, at the smallest shapes."""
    from tools.gpu import right

    for case in right.cases():
        plain = case.precision.name in ("float32", "bfloat16") and case.inputs == "random"
        if plain and case.k <= 3 and case.plan.form != "dense":
            yield right.row(case, runs=1)


STAGES = {
    function.__name__: function for function in (facts, right, forms, steps, train, drift, throughput, cuts, small)
}


def main() -> int:
    parser = argparse.ArgumentParser(description="One stage of `make gpu-bench`.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10, for `train` and `drift`")
    parser.add_argument("--name", default="cifar10", help="what `data.name` is for it")
    options = parser.parse_args()

    import jax

    from approxtrain.disk import write_json
    from approxtrain.run import record  # sets the flags that jax needs, before its backend starts

    if jax.default_backend() != "gpu" and not os.environ.get("APPROXTRAIN_ANY_DEVICE"):
        print(f"error: jax sees no GPU, only {jax.default_backend()}", file=sys.stderr)
        return 2

    head = {"command": f"make gpu-bench: {options.stage}", "environment": record.environment()}
    rows: list[dict[str, Any]] = []
    for row in STAGES[options.stage](options):
        rows.append(row)
        write_json(options.json, head | {"complete": False, "rows": rows})
        print(f"{len(rows)} done", flush=True)
    write_json(options.json, head | {"complete": True, "rows": rows})
    wrong = [row for row in rows if row.get("right") is False]
    print(f"{len(rows)} rows, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
