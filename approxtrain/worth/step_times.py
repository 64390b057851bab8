"""What steps take, timed side by side. Forks run one after the other: their times would also tell what else the machine
did meanwhile.

Of each column the shortest time is taken, for whatever else the machine does only adds to it. What several options save
together is a sum, and an error of the exact step's time would be in each term: so there are two exact contenders, whose
mean is taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import mean
from typing import NamedTuple, TypeVar

from approxtrain.bench.step_bench import StepBench
from approxtrain.bench.timing import interleaved
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.alone import alone
from approxtrain.training.workload import Workload

Key = TypeVar("Key", bound=Hashable)
ROUNDS = 30


class Span(NamedTuple):
    """Steps first ≤ s < stop of a schedule."""

    schedule: ScheduleConfig
    first: int
    stop: int


def step_times(work: Workload, spans: Mapping[Key, Span], rounds: int = ROUNDS) -> dict[Key, float]:
    """The mean time of a step of each span, as a share of an exact one's: each column by itself, as often as the span
    has it."""
    bench = StepBench(work.config, work.dataset)
    visits = {key: _columns(bench.schedule(span.schedule), span) for key, span in spans.items()}
    every = [bench.full, *dict.fromkeys([bench.full, *(column for each in visits.values() for column in each)])]
    contenders = [bench.whole_periods(column) for column in every]
    times = interleaved({str(number): each.call for number, each in enumerate(contenders)}, rounds)
    shortest = [min(times[str(number)].seconds) / each.steps for number, each in enumerate(contenders)]
    seconds = dict(zip(every, shortest, strict=True)) | {bench.full: mean(shortest[:2])}
    return {
        key: sum(count * seconds[column] for column, count in each.items()) / sum(each.values()) / seconds[bench.full]
        for key, each in visits.items()
    }


def _columns(schedule: Schedule, span: Span) -> dict[Schedule, int]:
    """How often each column is used in it, each as a schedule of its own."""
    counts = enumerate(schedule.column_visits(span.first, span.stop).tolist())
    return {alone(schedule, index): count for index, count in counts if count}
