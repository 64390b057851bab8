"""How long a run takes, as a share of the whole exact one: by the time of a step of each column, and their number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from approxtrain import disk
from approxtrain.bench.timing import Ratio, Times, ratio
from approxtrain.config import Config
from approxtrain.schedule import Schedule
from approxtrain.schedule.alone import alone
from approxtrain_kernels import Method
from tools.arms import BATCH
from tools.frontier.families import FAMILIES, WHOLE, Family
from tools.rendered import ROOT

RESULTS = ROOT / "results/frontier"
ROUNDS = 20
"""Of steps with batches of the usual size, and more of shorter ones: what disturbs the machine lasts as long."""


def file_of(network: str) -> Path:
    return RESULTS / network / "time.json"


def measure(network: str, folder: str, environment: dict[str, Any]) -> None:
    """Seconds of a step of each distinct column of all arms, interleaved in one process, which `environment` tells."""
    from approxtrain.bench.step_bench import StepBench
    from approxtrain.bench.timing import interleaved

    family = FAMILIES[network]
    rounds = ROUNDS * BATCH // family.batch
    benches: dict[str, StepBench] = {}
    calls: dict[str, Any] = {}
    for name in family.arms:
        config = family.config(name, f"data.dir={folder}")
        if (which := kind(config)) not in benches:
            benches[which] = StepBench(config)
        for column, schedule in columns_of(family, name).items():
            if column not in calls:
                calls[column] = benches[which].contender(schedule).call
    seconds = {name: list(times.seconds) for name, times in interleaved(calls, rounds).items()}
    disk.write_json(file_of(network), {"rounds": rounds, "seconds": seconds, "environment": environment})


def kind(config: Config) -> str:
    """What steps have in common that one bench can time."""
    depth = config.model.arguments.get("depth")
    name = f"resnet{depth}" if depth else config.model.name
    return f"{name}, {config.train.batch_size} images"


def schedule_of(family: Family, name: str) -> Schedule:
    config = family.config(name)
    layers = config.model.network().layers
    return Schedule.from_config(config.schedule, layers, family.steps(name), config.train.epochs)


def columns_of(family: Family, name: str) -> dict[str, Schedule]:
    """Each distinct column of an arm as a schedule of its own, by a name."""
    found, schedule = {}, schedule_of(family, name)
    of_columns = zip(schedule.columns, schedule.column_seen, schedule.column_absent, strict=True)
    for index, (column, seen, blocks) in enumerate(of_columns):
        more = [seen.text] * bool(seen.text) + [f"without {' and '.join(blocks)}"] * bool(blocks)
        text = ", ".join([kind(family.config(name)), *_layers(column), *more])
        found[text] = alone(schedule, index)
    return found


def _layers(column: Sequence[Method]) -> Iterator[str]:
    """ "full 1", "pooled 2-19" """
    for label, members in groupby(enumerate(column, start=1), key=lambda cell: cell[1].label):
        numbers = [number for number, _ in members]
        yield f"{label} {'-'.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))}"


@cache
def share_of_time(network: str, name: str) -> Ratio | None:
    """Of the whole exact run's; None where a column was not timed."""
    if not file_of(network).exists():
        return None
    seconds = {key: np.asarray(each) for key, each in json.loads(file_of(network).read_text())["seconds"].items()}
    run, exact = (_visits(FAMILIES[network], each) for each in (name, WHOLE))
    if (run.keys() | exact.keys()) - seconds.keys():
        return None
    times = [Times(tuple(sum((n * seconds[key] for key, n in visits.items()), np.zeros(1)))) for visits in (run, exact)]
    return ratio(*times)


def _visits(family: Family, name: str) -> dict[str, int]:
    """How often a run has each of its columns."""
    schedule, steps = schedule_of(family, name), family.steps(name) * family.arms[name].epochs
    return dict(zip(columns_of(family, name), schedule.column_visits(0, steps).tolist(), strict=True))
