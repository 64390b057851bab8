"""What steps take, timed side by side. Forks run one after the other: their times would also tell what else the machine
did meanwhile."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

from approxtrain.bench.step_bench import StepBench, StepContender
from approxtrain.bench.timing import interleaved
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.alone import alone
from approxtrain.training.workload import Workload

Key = TypeVar("Key", bound=Hashable)


class Span(NamedTuple):
    """Steps first ≤ s < stop of a schedule."""

    schedule: ScheduleConfig
    first: int
    stop: int


def step_times(work: Workload, spans: Mapping[Key, Span], rounds: int) -> dict[Key, float]:
    """The mean time of a step of each span, as a share of an exact one's: each column by itself, its median over the
    rounds, as often as the span has it."""
    bench = StepBench(work.config, work.dataset)
    visits = {key: _columns(bench.schedule(span.schedule), span) for key, span in spans.items()}
    every = dict.fromkeys([bench.full, *(column for each in visits.values() for column in each)])
    contenders: list[StepContender] = [bench.whole_periods(column) for column in every]
    times = interleaved({str(number): each.call for number, each in enumerate(contenders)}, rounds)
    seconds = {
        column: times[str(number)].median / contender.steps
        for number, (column, contender) in enumerate(zip(every, contenders, strict=True))
    }
    return {
        key: sum(count * seconds[column] for column, count in each.items()) / sum(each.values()) / seconds[bench.full]
        for key, each in visits.items()
    }


def _columns(schedule: Schedule, span: Span) -> dict[Schedule, int]:
    """How often each column is used in it, each as a schedule of its own."""
    counts = enumerate(schedule.column_visits(span.first, span.stop).tolist())
    return {alone(schedule, index): count for index, count in counts if count}
