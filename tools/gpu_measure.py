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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from approxtrain import disk
from approxtrain.bench import machine
from approxtrain.bench.kernel_cases import PRECISIONS, Case
from approxtrain.bench.kernel_contenders import compiled, draw, estimator
from approxtrain.bench.step_bench import StepBench
from approxtrain.bench.step_report import report
from approxtrain.bench.timing import interleaved, ratio
from approxtrain.config import load
from approxtrain.run.environment import this_environment
from approxtrain.schedule import ScheduleConfig
from approxtrain.schedule.config import Rule
from approxtrain_cli.bench_kernel_tables import describe
from approxtrain_cli.bench_step_tables import tables
from approxtrain_kernels import ConvShape
from approxtrain_kernels.methods import make
from approxtrain_kernels.pallas.choose import choose, full, plans
from approxtrain_kernels.pallas.model import device_of
from approxtrain_kernels.pallas.wgrad import estimate
from approxtrain_kernels.shapes import PAPER

NETWORKS = ("resnet20", "cnn2", "vgg19", "resnet14")
METHODS = ("zero", "approx", "pooled")
NVIDIA_SMI = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu"
ROUNDS, STEPS = 8, 20
SEEDS = (4, 16)
PROFILED = 10

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
            built[name] = bench.contender(bench.schedule(every_layer(method)), steps=STEPS, seeds=count)
            networks[name] = count
    samples = interleaved({name: contender.call for name, contender in built.items()}, ROUNDS)
    times = {name: taken.divided_by(STEPS) for name, taken in samples.items()}
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
    """Each form of approx at the paper's shapes: what the cost model says, and the time of each kernel."""
    for row in timed_forms(PAPER, ("tf32", "bfloat16", "float32")):
        times = {
            name: form.get("failed") or round(sum(us for _, us in form["kernels_us"]), 1)
            for name, form in row["forms"].items()
        }
        print(describe(row["shape"]), row["precision"], times, f"chosen: {row['chosen']}", flush=True)
        yield row


def timed_forms(shapes: Sequence[ConvShape], precisions: Sequence[str]) -> Rows:
    """A row for each precision and shape. Whether a form is right is for `pytest -m gpu` to say."""
    for case in (Case(shape, PRECISIONS[name], "wgrad", make("approx")) for name in precisions for shape in shapes):
        shape, dtype = case.shape, case.precision.dtype
        model = {"tf32": case.precision.name != "float32", "device": device_of(jax.devices()[0].device_kind)}
        contenders: dict[str, Any] = {"full": (full(shape, dtype, **model), estimator(make("full"), shape))}
        for plan in plans(shape, 1, dtype, **model):
            contenders[plan.form] = plan, partial(estimate, shape=shape, k=1, plan=plan)
        timed = {name: {"model": asdict(plan)} | kernel_times(case, of) for name, (plan, of) in contenders.items()}
        yield {
            "shape": asdict(shape),
            "precision": case.precision.name,
            "chosen": choose(shape, 1, dtype, **model).form,
            "forms": timed,
            "right": not any("failed" in form for form in timed.values()),
        }


def kernel_times(case: Case, function: Callable[..., Any]) -> dict[str, Any]:
    """(kernel, median µs) in the order of their launch, by CUPTI, with inputs in the cache and without the gaps between
    kernels; why not, where a form does not compile: the others go on."""
    try:
        from jax.experimental.mosaic.gpu.profiler import Cupti

        contender = compiled("form", case, ("wgrad",), ("x", "dy"), function)
        profiled = Cupti(finalize=False).measure(contender.run, aggregate=False, iterations=PROFILED)
        calls: Any = profiled(*contender.load(draw(case, 0)))[1]
        if not calls:
            return {"failed": "CUPTI saw no kernel"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    names = [name[:80] for name, _ in calls[0]]
    return {"kernels_us": [(name, 1e3 * median(call[at][1] for call in calls)) for at, name in enumerate(names)]}


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
