"""The time of a step under each method, in every layer but the first: what a step takes, in docs/methods.md.

python -m tools.methods time    # minutes, interleaved in one process a network; the machine must be quiet
python -m tools.methods page    # writes the table
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from approxtrain import disk, models
from approxtrain.bench.timing import Ratio, Times, ratio
from approxtrain.config import load
from approxtrain.run import process
from approxtrain.run.environment import this_environment
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.cost import cost
from approxtrain_kernels.methods import all_methods
from tools.arms import refuse_changed_files
from tools.rendered import DOCS, ROOT, Part, table

RESULT = ROOT / "results/bench/methods-cpu.json"
PART = Part(DOCS / "methods.md", "by tools/methods.py")
NETWORKS, BATCH, ROUNDS = ("resnet20", "cnn2"), 128, 20


def schedules(network: str) -> dict[str, Schedule]:
    """Label of each method → the schedule that has it in every layer but the first, at every step."""
    found = {}
    for name in all_methods():
        rule = {"method": name, "layers": {"start": 2}}
        config = ScheduleConfig.model_validate({"name": "full"} if name == "full" else {"rules": [rule]})
        schedule = Schedule.from_config(config, models.get(network).layers, steps_per_epoch=1)
        found[schedule.columns[0][-1].label] = schedule
    return found


def time() -> None:
    refuse_changed_files()
    process.keep_freed_memory()  # as the commands do, before jax starts
    from approxtrain.bench.step_bench import StepBench
    from approxtrain.bench.timing import interleaved

    measured = {}
    for network in NETWORKS:
        bench = StepBench(load(f"{network}-full", ["data.name=shapes", f"train.batch_size={BATCH}"]))
        contenders = {label: bench.contender(schedule) for label, schedule in schedules(network).items()}
        times = interleaved({label: each.call for label, each in contenders.items()}, ROUNDS)
        measured[network] = {
            "seconds": {label: list(each.seconds) for label, each in times.items()},
            "temporary_bytes": {label: each.temporaries for label, each in contenders.items()},
        }
    result = {"command": "python -m tools.methods time", "batch": BATCH, "rounds": ROUNDS, "networks": measured}
    disk.write_json(RESULT, result | {"environment": this_environment()})


def over_exact(network: str) -> dict[str, Ratio]:
    """Label of each method → the time of its step, over that of the exact one."""
    seconds = json.loads(RESULT.read_text("utf-8"))["networks"][network]["seconds"]
    times = {label: Times(tuple(each)) for label, each in seconds.items()}
    return {label: ratio(each, times["full"]) for label, each in times.items()}


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    known = json.loads(RESULT.read_text("utf-8"))
    yield "method", *(f"{what}, {network}" for network in NETWORKS for what in ("step", "by operations", "memory"))
    of_network = {network: schedules(network) for network in NETWORKS}
    times = {network: over_exact(network) for network in NETWORKS}
    for label in of_network[NETWORKS[0]]:
        cells = []
        for network in NETWORKS:
            found, batch = known["networks"][network], known["batch"]
            over = times[network][label]
            bound = 1 - cost(of_network[network][label], models.get(network).layers, batch, 0, 1).speed_up_with_methods
            memory = found["temporary_bytes"][label] / found["temporary_bytes"]["full"]
            cells += [f"{over.value:.3f} ({over.low:.3f}–{over.high:.3f})", f"{bound:.2f}", f"{memory:.2f}"]
        yield f"`{label}`", *cells


def page() -> str:
    return f"{table(rows())}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "page"))
    if parser.parse_args().what == "time":
        time()
    else:
        PART.put(page())


if __name__ == "__main__":
    main()
