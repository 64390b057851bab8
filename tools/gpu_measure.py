"""One stage of `make gpu-bench`, on its own:

    python tools/gpu_measure.py STAGE --json FILE [--data FOLDER --name NAME]

The JSON is written again after each row, so that it holds what was measured when time ran out. Exits with 1 where
something was wrong. Needs a GPU; APPROXTRAIN_ANY_DEVICE=1 lets it run on what there is, to try the program out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "cli"), str(ROOT / "kernels")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from rich.console import Console  # noqa: E402

from approxtrain import disk  # noqa: E402
from approxtrain.bench import machine  # noqa: E402
from approxtrain.bench.kernel_cases import PRECISIONS  # noqa: E402
from approxtrain.bench.step_bench import StepBench  # noqa: E402
from approxtrain.bench.step_report import report  # noqa: E402
from approxtrain.bench.timing import Times, interleaved, ratio  # noqa: E402
from approxtrain.config import load  # noqa: E402
from approxtrain.run.environment import this_environment  # noqa: E402
from approxtrain.schedule import ScheduleConfig  # noqa: E402
from approxtrain.schedule.config import Rule  # noqa: E402
from approxtrain_cli.bench_kernel_tables import describe  # noqa: E402
from approxtrain_cli.bench_step_tables import tables  # noqa: E402
from approxtrain_kernels.shapes import PAPER  # noqa: E402
from tools.gpu import forms as timed_forms  # noqa: E402

NETWORKS = ("resnet20", "cnn2", "vgg19", "resnet14")
METHODS = ("zero", "approx", "pooled")
NVIDIA_SMI = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu"
ROUNDS, STEPS = 8, 20
SEEDS = (4, 16)

Rows = Iterator[dict[str, Any]]


def facts(options: argparse.Namespace) -> Rows:
    """What the driver says, before anything has warmed the device up; what the device can do."""
    told = subprocess.getoutput(f"nvidia-smi --query-gpu={NVIDIA_SMI} --format=csv")
    row = {"nvidia_smi": told, "machine": machine.measure(list(PRECISIONS.values())).as_json()}
    print(row)
    yield row


def step(model: str, precision: str, options: argparse.Namespace) -> Rows:
    """A network's step with every layer by one method, alone, in a loop, switched, and as plain Flax: `bench-step`."""
    bench = StepBench(load(f"{model}-full", ["data.name=shapes", f"train.precision={precision}", *options.overrides]))
    result = report(bench, bench.run({f"all {name}": every_layer(name) for name in METHODS}, ROUNDS, peers=["plain"]))
    for part in tables(result):
        Console(width=120).print(part)
    yield result


def every_layer(method: str) -> ScheduleConfig:
    return ScheduleConfig(rules=(Rule(method=method),))


def seeds(options: argparse.Namespace) -> Rows:
    """ResNet-20's images a second: one network, and several in one step by `vmap`."""
    bench = StepBench(load("resnet20-full", ["data.name=shapes", *options.overrides]))
    batch, built, networks = bench.config.train.batch_size, {}, {}
    for method in ("full", "approx"):
        for count in (1, *SEEDS):
            name = f"{method}, seeds {count}"
            built[name] = bench.contender(name, bench.schedule(every_layer(method)), steps=STEPS, seeds=count)
            networks[name] = count
    samples = interleaved({name: contender.call for name, contender in built.items()}, ROUNDS)
    times = {name: Times(tuple(seconds / STEPS for seconds in taken.seconds)) for name, taken in samples.items()}
    rates = {name: networks[name] * batch / taken.median for name, taken in times.items()}
    for name, rate in rates.items():
        print(f"{name:<18} {1e3 * times[name].median:8.3f} ms a step, {rate:9,.0f} images a second")
    one = times["full, seeds 1"]
    yield {
        "model": bench.model.name,
        "batch": batch,
        "precision": bench.config.train.precision,
        "steps_a_sample": STEPS,
        "milliseconds": {name: taken.milliseconds for name, taken in times.items()},
        "images_a_second": rates,
        "ratio_to_one_seed": {name: ratio(taken, one).as_json() for name, taken in times.items() if taken is not one},
    }


def forms(options: argparse.Namespace) -> Rows:
    """Each form of approx at the paper's shapes, kernel by kernel."""
    for row in timed_forms.run(PAPER, ("tf32", "bfloat16", "float32")):
        times = {name: timed_forms.microseconds(form) for name, form in row["forms"].items()}
        print(describe(row["shape"]), row["precision"], times, f"chosen: {row['chosen']}", flush=True)
        yield row


def drift(options: argparse.Namespace) -> Rows:
    """How far a run's first losses are from themselves: run again, and with each weight one ulp higher. The control for
    any comparison of two programs, since losses drift apart by any two ways of rounding."""
    data = [f"data.dir={options.data}"] if options.data else []
    for preset in ("resnet20-full", "resnet20-schedule1-approx"):
        bench = StepBench(load(preset, [*data, f"data.name={options.name}", *options.overrides]))
        dispatch, start, order = bench.dispatch(bench.schedule(bench.config.schedule))
        higher = start._replace(params=jax.tree.map(lambda leaf: jnp.nextafter(leaf, jnp.inf), start.params))
        first, *others = (_losses(bench, dispatch, state, order) for state in (start, start, higher))
        distances = ([abs(a - b) for a, b in zip(first, other, strict=True)] for other in others)
        apart = dict(zip(("run again", "one ulp"), distances, strict=True))
        largest = {name: max(steps) for name, steps in apart.items()}
        print(preset, largest)
        yield {"preset": preset, "data": bench.data, "first_losses": first, "apart": apart, "largest": largest}


def _losses(bench: StepBench, dispatch: Any, state: Any, order: Any) -> list[float]:
    state, losses = jax.tree.map(jnp.copy, state), []  # a step gives its state's memory away
    for number in range(STEPS):
        state, metrics = dispatch(number, state, bench.images, order)
        losses += metrics.loss.tolist()  # of the one seed
    return losses


STAGES: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "facts": facts,
    **{f"step-{model}": partial(step, model, "float32") for model in NETWORKS},
    "step-resnet20-bfloat16": partial(step, "resnet20", "bfloat16"),
    "seeds": seeds,
    "forms": forms,
    "drift": drift,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="One stage of `make gpu-bench`.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10, for `drift`")
    parser.add_argument("--name", default="shapes", help="what `data.name` is, for `drift`")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    options = parser.parse_args()

    if jax.default_backend() != "gpu" and not os.environ.get("APPROXTRAIN_ANY_DEVICE"):
        print(f"error: jax sees no GPU, only {jax.default_backend()}", file=sys.stderr)
        return 2

    head = {"command": f"make gpu-bench: {options.stage}", "environment": this_environment()}
    rows: list[dict[str, Any]] = []
    for row in STAGES[options.stage](options):
        rows.append(row)
        disk.write_json(options.json, head | {"complete": False, "rows": rows})
        print(f"{len(rows)} done", flush=True)
    disk.write_json(options.json, head | {"complete": True, "rows": rows})
    wrong = [row for row in rows if row.get("right") is False]
    print(f"{len(rows)} rows, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
