"""The schedule: the methods of all layers as a pure function of the global step.

It is a table and knows nothing of training. A step that is repeated, resumed or asked for out of order gets
the same column, so that nothing of a schedule has to be stored in a checkpoint.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from approxtrain.errors import ConfigError
from approxtrain.models.layer import ConvLayer
from approxtrain.schedule.bypass import absent, entries_of, skip_absent
from approxtrain.schedule.catch_up import steps_since_update
from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.frozen_prefix import prefix
from approxtrain.schedule.local import NEVER, Local, local_steps
from approxtrain.schedule.phases import phases_of
from approxtrain.schedule.replicas import Cell, columns, method_of, places_of
from approxtrain.schedule.seen import ALL, Seen, Windows, split, windows
from approxtrain.schedule.stamps import Calendar, resolve
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods import all_methods, make

Column = tuple[Method, ...]
_Entry = tuple[tuple[Cell, ...], Seen, tuple[int, ...], tuple[str, ...]]
"""A column's cells, what it sees of its images, how far it moves each layer, the blocks that are left out."""


class IndexTable(NamedTuple):
    """`Schedule.index` as int32 arrays, for a compiled program: with p the last phase where starts[p] ≤ step,

    index = table[offsets[p] + (step − starts[p]) mod periods[p]]

    and the places of its replicas, by the same entry: `places[of_places[entry]]`.
    """

    starts: np.ndarray
    periods: np.ndarray
    offsets: np.ndarray
    table: np.ndarray
    of_places: np.ndarray
    places: np.ndarray
    """int8 `[distinct, layers, replicas]`: of each layer, which of its column's methods a replica runs."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which method each layer uses at each step. Compared and hashed by value: a static argument."""

    layers: tuple[str, ...]
    """Paths of the convolutions in forward order."""
    cells: tuple[Method, ...]
    """The distinct methods with their parameters; 0 is `full`."""
    phases: tuple[tuple[int, np.ndarray], ...]
    """First step f and int8 mask [layers, period] into `cells`: step s has its column (s − f) mod period. Where
    replicas differ, [replicas, layers, period]."""
    frozen_prefix: bool = False
    """Whether norms and biases of each column's frozen prefix get no gradient either (`frozen_prefix.py`)."""
    seen: tuple[Seen, ...] = ()
    """Of the images in each phase (`seen.py`); without any, all of them as they are."""
    catch_up: bool = False
    """Whether weights that are skipped at times are moved further at others (`catch_up.py`)."""
    local: Local = NEVER
    """When replicas update copies of their own (`local.py`)."""
    bypass: tuple[tuple[str, int], ...] = ()
    """Blocks that are left out, each up to the step at which it comes in, where a phase begins (`bypass.py`)."""

    def __post_init__(self) -> None:
        starts = [first for first, _ in self.phases]
        object.__setattr__(self, "seen", self.seen or (ALL,) * len(self.phases))
        if len(self.seen) != len(self.phases):
            raise ValueError(f"`seen` has {len(self.seen)} entries for {len(self.phases)} phases.")
        if self.cells[:1] != (make("full"),):
            raise ValueError("`cells` must begin with full.")
        if starts[:1] != [0] or any(a >= b for a, b in pairwise(starts)):
            raise ValueError(f"`phases` must begin at step 0 and then later and later, not at {starts}.")
        for _, mask in self.phases:
            shape = (*self.phases[0][1].shape[:-2], len(self.layers))  # all masks have as many replicas, or none
            fits = mask.ndim in (2, 3) and mask.shape[:-1] == shape and mask.shape[-1] > 0
            if not fits or mask.dtype != np.int8 or mask.min(initial=0) < 0 or mask.max(initial=0) >= len(self.cells):
                raise ValueError("a mask must be int8 [layers, period] of indices into `cells`, or [replicas, …] each.")
            mask.flags.writeable = False

    @classmethod
    def from_config(
        cls,
        config: ScheduleConfig,
        layers: Sequence[ConvLayer],
        steps_per_epoch: int,
        epochs: int | None = None,
        replicas: int = 1,
    ) -> Schedule:
        """The schedule of a `[schedule]` section for a model. ConfigError with everything that is wrong.

        `epochs` of the run: only where the section has shares of it ("80%"). `replicas` share each batch.
        """
        if steps_per_epoch < 1:
            raise ConfigError("`train.batch_size`: it is larger than the training set, so that an epoch has no step.")
        stamps, problems = resolve(config, layers, steps_per_epoch, epochs, replicas)
        parts, local, entries = Windows(), NEVER, {}
        if epochs is not None or not config.knows_its_end:
            calendar = Calendar(steps_per_epoch, epochs)
            parts, wrong = windows(config, calendar)
            local, not_local = local_steps(config, calendar, replicas)
            entries, not_there = entries_of(config.bypass, layers, calendar)
            problems += wrong + not_local + not_there
        if problems:
            raise ConfigError(problems)
        try:
            own_cells, phases = phases_of(stamps, len(layers), replicas)
        except ValueError as error:
            raise ConfigError(f"`schedule`: {error}") from error
        paths = tuple(layer.path for layer in layers)
        cells, phases = skip_absent(own_cells, phases, entries, paths)
        phases, seen = split(phases, parts)
        more = (config.frozen_prefix, seen, config.catch_up, local, tuple(entries.items()))
        schedule = cls(paths, cells, phases, *more)
        if (count := len(schedule.columns)) > config.max_columns:
            raise ConfigError(
                f"`schedule.max_columns`: the schedule has {count} distinct columns (combinations of methods over the "
                f"layers) and {config.max_columns} are allowed, because each is compiled, as a branch of the training "
                "step or as a program of its own, which takes seconds. Use fewer different `every`s, or allow it with "
                f"schedule.max_columns={count}."
            )
        if config.frozen_prefix and not any(map(prefix, schedule.columns)):
            if len(own_cells) == 1:
                return replace(schedule, frozen_prefix=False)  # the exact baseline, by schedule.method=full
            names = " or ".join(f"`{name}`" for name, kind in all_methods().items() if not kind.needs)
            raise ConfigError(
                f"`schedule.frozen_prefix`: there is no step that has one: the lowest layer, 1 {layers[0].path}, "
                f"is never {names}. Choose one of these for it at some step, or leave `frozen_prefix` out."
            )
        return schedule

    @classmethod
    def named(cls, name: str, layers: Sequence[ConvLayer], method: str | None = None, **params: Any) -> Schedule:
        """A schedule of `named.toml`: named("schedule1", layers, "approx", k=4). None of them depends on the epochs."""
        table = {"name": name, "method": method, "params": params}
        return cls.from_config(ScheduleConfig.model_validate(table), layers, steps_per_epoch=1)

    def exact_from(self, step: int) -> Schedule:
        """The same until step `step`, and then every layer exact; blocks come in, and images change, as before."""
        borders = sorted({step, *(first for first in self._starts if first > step)})
        before = [(phase, seen) for phase, seen in zip(self.phases, self.seen, strict=True) if phase[0] < step]
        exact = np.zeros((*self.phases[0][1].shape[:-1], 1), np.int8)
        _, masks = skip_absent(self.cells, tuple((first, exact) for first in borders), dict(self.bypass), self.layers)
        after = [(phase, self.seen[bisect_right(self._starts, phase[0]) - 1]) for phase in masks]
        phases, seen = zip(*before, *after, strict=True)
        return replace(self, phases=phases, seen=seen)

    def column(self, step: int) -> Column:
        """The methods of all layers at global step `step`."""
        return self.columns[self.index(step)]

    def index(self, step: int) -> int:
        """The index of `column(step)` in `columns`."""
        return int(self.index_table.table[self._entry(step)])

    def _entry(self, step: int) -> int:
        if step < 0:
            raise ValueError(f"`step` (={step}) must not be negative.")
        starts, periods, offsets, *_ = self.index_table
        phase = bisect_right(self._starts, step) - 1
        return int(offsets[phase]) + (step - int(starts[phase])) % int(periods[phase])

    def visits(self, first: int, stop: int) -> np.ndarray:
        """How often each layer uses each cell in the steps first ≤ s < stop, where replicas differ on all of them
        together: int64 [layers, cells], exact."""
        total = np.zeros((len(self.layers), len(self.cells)), np.int64)
        for (column, *_), count in zip(self._distinct, self.column_visits(first, stop).tolist(), strict=True):
            for row, cell in zip(total, column, strict=True):
                for number, replicas in ((cell, self.replicas),) if isinstance(cell, int) else cell:
                    row[number] += count * replicas
        return total

    @property
    def replicas(self) -> int:
        """How many there are where they differ; else 1, however many run the schedule."""
        mask = self.phases[0][1]
        return len(mask) if mask.ndim == 3 else 1

    def of_replica(self, replica: int) -> Schedule:
        """What one replica runs."""
        alone = tuple((first, mask[replica]) for first, mask in self.phases) if self.replicas > 1 else self.phases
        return replace(self, phases=alone)

    def places(self, step: int) -> np.ndarray:
        """int8 `[layers, replicas]`: which of the methods that its column has for a layer a replica runs at `step`."""
        return self.index_table.places[int(self.index_table.of_places[self._entry(step)])]

    def column_visits(self, first: int, stop: int) -> np.ndarray:
        """How often each of `columns` is used in the steps first ≤ s < stop: int64 [columns], exact."""
        total = np.zeros(len(self._distinct), np.int64)
        np.add.at(total, self.index_table.table, self.entry_visits(first, stop))
        return total

    def images(self, batch: int, first: int, stop: int) -> int:
        """How many images the steps first ≤ s < stop take of their batches."""
        visits = self.column_visits(first, stop).tolist()
        return sum(count * seen.count(batch) for count, seen in zip(visits, self.column_seen, strict=True))

    def entry_visits(self, first: int, stop: int) -> np.ndarray:
        """How often each entry of `index_table.table` is used in the steps first ≤ s < stop: int64, exact."""
        offsets, total = self.index_table.offsets, np.zeros(len(self.index_table.table), np.int64)
        last = bisect_left(self._starts, stop)
        for number in range(max(bisect_right(self._starts, first) - 1, 0), last):
            (start, mask), offset = self.phases[number], int(offsets[number])
            begin, end = max(start, first), stop if number + 1 == last else self._starts[number + 1]
            period = mask.shape[-1]
            if begin >= end:
                continue
            rounds, rest = divmod(end - begin, period)
            times = np.full(period, rounds, np.int64)
            times[(np.arange(begin, begin + rest) - start) % period] += 1
            total[offset : offset + period] += times
        return total

    def shares(self, steps: int) -> dict[str, float]:
        """Label of each method → its share of all layers in the first `steps` steps; without a layer, 0."""
        visits = self.visits(0, steps).sum(0)
        shares = (visits / max(visits.sum(), 1)).tolist()
        return {method.label: share for method, share in zip(self.cells, shares, strict=True)}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The distinct columns in order of first use: the steps that have to be compiled."""
        return tuple(tuple(method_of(cell, self.cells) for cell in column) for column, *_ in self._distinct)

    @cached_property
    def column_seen(self) -> tuple[Seen, ...]:
        """Of the images in each of `columns`."""
        return tuple(seen for _, seen, _, _ in self._distinct)

    @cached_property
    def column_factors(self) -> tuple[tuple[int, ...], ...]:
        """How far each layer is moved in each of `columns`, in steps: 1 but where it catches up."""
        return tuple(factors for _, _, factors, _ in self._distinct)

    @cached_property
    def column_absent(self) -> tuple[tuple[str, ...], ...]:
        """The blocks that are left out in each of `columns`."""
        return tuple(blocks for *_, blocks in self._distinct)

    def ever_frozen(self, layers: Sequence[ConvLayer]) -> frozenset[str]:
        """Paths of the layers that are in the frozen prefix of some column."""
        longest = max(map(prefix, self.columns), default=0) if self.frozen_prefix else 0
        return frozenset(layer.path for layer in layers[:longest])

    @cached_property
    def _starts(self) -> list[int]:
        return [first for first, _ in self.phases]

    @cached_property
    def _distinct(self) -> list[_Entry]:
        return list(dict.fromkeys(self._in_order))

    @property
    def _in_order(self) -> Iterator[_Entry]:
        """Columns of all masks, with what is seen of the images, what each layer catches up, the blocks left out."""
        updates = np.array([cell.updates_weight for cell in self.cells])
        for (first, mask), seen in zip(self.phases, self.seen, strict=True):
            blocks = absent(dict(self.bypass), first)
            updated = np.any(updates[mask], axis=0) if mask.ndim == 3 else updates[mask]  # by some replica
            factors = steps_since_update(updated) if self.catch_up else np.ones_like(updated, int)
            for column, of_column in zip(columns(mask), factors.T.tolist(), strict=True):
                yield column, seen, tuple(of_column), blocks

    @cached_property
    def index_table(self) -> IndexTable:
        """The arrays from which a compiled program finds `index(step)`."""
        number = {column: index for index, column in enumerate(self._distinct)}
        periods = [mask.shape[-1] for _, mask in self.phases]
        offsets = np.concatenate([[0], np.cumsum(periods)[:-1]])
        table = [number[column] for column in self._in_order]
        distinct, of_places = np.zeros((1, len(self.layers), 1), np.int8), np.zeros(len(table))
        if self.replicas > 1:
            of_each = np.concatenate([places_of(mask) for _, mask in self.phases])
            distinct, of_places = np.unique(of_each, axis=0, return_inverse=True)
        arrays = (self._starts, periods, offsets, table, of_places.reshape(-1))
        return IndexTable(*(np.asarray(values, np.int32) for values in arrays), places=distinct)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    @cached_property
    def _value(self) -> tuple[object, ...]:
        masks = tuple((first, mask.shape, mask.tobytes()) for first, mask in self.phases)
        return (self.layers, self.cells, masks, self.seen, self.frozen_prefix, self.catch_up, self.local, self.bypass)
