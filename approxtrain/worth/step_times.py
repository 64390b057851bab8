"""The times of steps by schedules, side by side: forks run one after the other, so that whatever else the machine does
meanwhile would be taken for what a schedule saves."""

from __future__ import annotations

from collections.abc import Sequence

from approxtrain.bench.step_bench import StepBench
from approxtrain.bench.timing import interleaved
from approxtrain.training.workload import Workload
from approxtrain.worth.forks import Arm


def step_times(work: Workload, arms: Sequence[Arm], rounds: int) -> dict[str, float]:
    """Of each arm the median time of a step, as a share of an exact one's."""
    bench = StepBench(work.config, work.dataset)
    exact = bench.whole_periods(bench.full)
    contenders = {arm.name: bench.whole_periods(bench.schedule(arm.schedule)) for arm in arms}
    times = interleaved({"exact": exact.call} | {name: each.call for name, each in contenders.items()}, rounds)
    of_exact = times["exact"].median / exact.steps
    return {name: times[name].median / each.steps / of_exact for name, each in contenders.items()}
