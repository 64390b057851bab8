"""One run of a reproduction, in this process: begun or gone on with, to its end, and archived. And a few exact steps of
a network, for an estimate where no run tells what they take."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax

from approxtrain.bench.step_bench import StepBench
from approxtrain.config import Config
from approxtrain.data import Dataset
from approxtrain.errors import DivergedError, InterruptedRun
from approxtrain.paper.planning import PlannedRun
from approxtrain.paper.run_store import RunStore, StoredRun
from approxtrain.run.archive import Archive
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.signals import Interruption

MOST, LONGEST = 5, 8.0
"""Steps that are timed, and seconds after which no other is begun."""


def execute(planned: PlannedRun, store: RunStore, dataset: Dataset, listener: Callable[[Path], Listener]) -> Archive:
    """Train what is left of a run and archive it, diverged or finished. → the archive.

    A run that has ended, perhaps by another process just now, is not trained again; without an archive it gets one from
    its folder. `listener(folder)` is told of the training. Raises LockedError where another process is at it,
    InterruptedRun, CheckpointError, DiskError; what was saved before stays.
    """
    claimed = store.claim(planned)
    if isinstance(claimed, StoredRun):
        return claimed.archive if claimed.folder is None else store.keep(planned, claimed.folder)
    folder, config = claimed
    with folder:
        try:
            Run(config, folder, listener(folder.path), dataset).train()
        except DivergedError:
            pass  # its folder says so, and then its archive
        finally:
            gc.collect()
            jax.clear_caches()  # the programs of one run are of no use to the next, and take memory
        return store.keep(planned, folder.path)


def measure_step(config: Config) -> tuple[float, float]:
    """(median seconds of an exact step, seconds of compiling it) of the network of `config` on its images.

    InterruptedRun by a signal, once the call that is under way has ended.
    """
    with Interruption() as interruption:
        bench = StepBench(config)
        call = bench.contender(bench.full).call
        first = timed(call, interruption)
        seconds: list[float] = []
        while not seconds or (len(seconds) < MOST and sum(seconds) < LONGEST):
            seconds.append(timed(call, interruption))
    jax.clear_caches()
    return median(seconds), max(first - median(seconds), 0.0)


def timed(call: Callable[[], object], interruption: Interruption) -> float:
    """Seconds of one call. A process that leaves in the midst of one may crash: a signal ends it afterwards."""
    begin = time.perf_counter()
    call()
    if interruption.signal_number is not None:
        raise InterruptedRun(interruption.signal_number, "Stopped by a signal, while a step was measured.")
    return time.perf_counter() - begin
