"""From the rules or the grid of a configuration to stamps: which layers at which steps get which method.

A stamp is a rule of which everything that depends on the model and on the length of an epoch is worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from itertools import groupby
from math import ceil, gcd, lcm
from typing import NamedTuple

from approxtrain.models.layer import ConvLayer
from approxtrain.schedule.config import Rule, ScheduleConfig, make
from approxtrain.schedule.named_schedules import named
from approxtrain.schedule.ranges import LayerRange, StepRange
from approxtrain.schedule.replicas import ALONE, Choice, choose
from approxtrain_kernels.method import Method

MOST_CONFLICTS = 20
"""Pairs of rules that are reported."""
MAX_RIVALS = 1_000_000
"""Pairs of rules that are compared: a second or two."""


@dataclass(frozen=True)
class Stamp:
    """`method` for `layers` (counted from 0) at the steps of begin ≤ s < stop with s ≡ anchor (mod every), on the
    replicas of `choice`."""

    where: str
    """The part of the configuration that it comes from, for messages: "schedule.rules.0"."""
    layers: tuple[int, ...]
    begin: int
    stop: int | None
    every: int
    anchor: int
    method: Method
    order: int = 0
    choice: Choice = ALONE

    @property
    def period(self) -> int:
        """Steps after which it says the same again."""
        return self.every * self.choice.period

    def replicas(self, step: int) -> list[int]:
        """Those that it is for at a step at which it is used."""
        return self.choice.at((step - self.anchor) // self.every)

    def spans(self, step: int) -> bool:
        """Whether begin ≤ step < stop, where the method is used at one step in `every`."""
        return self.begin <= step and (self.stop is None or step < self.stop)

    def next_use(self, step: int) -> int:
        """The first step from `step` on that is ≡ anchor (mod every)."""
        return step + (self.anchor - step) % self.every


class Calendar(NamedTuple):
    """Steps by epochs, and by shares of a run."""

    steps_per_epoch: int
    epochs: int | None
    """Of the run; None where it is not known, and shares mean nothing."""

    def end(self, bound: int | str) -> int:
        """Steps up to the end of an epoch, or in a share of the run: "80%" of 101 steps are 81."""
        if isinstance(bound, int):
            return bound * self.steps_per_epoch
        assert self.epochs is not None
        return ceil(Fraction(bound[:-1]) * self.epochs * self.steps_per_epoch / 100)

    def begin(self, bound: int | str) -> int:
        """The first step of an epoch, or from a share of the run on."""
        return self.end(bound - 1) if isinstance(bound, int) else self.end(bound)


def resolve(
    config: ScheduleConfig,
    layers: Sequence[ConvLayer],
    steps_per_epoch: int,
    epochs: int | None = None,
    replicas: int = 1,
) -> tuple[list[Stamp], list[str]]:
    """The stamps of a configuration, and all that is wrong with it (then some stamps are missing)."""
    if epochs is None and config.knows_its_end:
        return [], ["`schedule`: it has shares of a run, and how many epochs the run has is not said here."]
    calendar = Calendar(steps_per_epoch, epochs)
    end = None if config.until_epoch is None else calendar.end(config.until_epoch)
    entry = named()[config.name] if config.name else None
    grid = entry.grid if entry else config.grid
    if grid:
        return _grid_stamps(config, grid, layers, end, replicas)
    if entry:
        cell = {"method": config.method, "params": config.params}
        rules = [("schedule.name", Rule.model_validate({**table, **cell})) for table in entry.rules]
    else:
        rules = [(f"schedule.rules.{index}", rule) for index, rule in enumerate(config.rules or ())]
    stamps: list[Stamp] = []
    problems: list[str] = []
    for where, rule in rules:
        numbers, wrong = _select(rule, where, layers)
        choice, not_there = choose(rule.replicas, where, replicas)
        wrong += not_there
        steps, (begin, stop) = rule.steps or StepRange(), _window(rule, end, calendar)
        stamp = Stamp(where, numbers, begin, stop, steps.every, steps.start, rule.build(), rule.order, choice)
        first = stamp.next_use(begin)
        if not stamp.spans(first):
            wrong.append(
                f"`{where}`: it covers no step: by its `steps` and `epochs` the first would be {first}, and by these "
                f"or `until_epoch` all lie below {stop} (steps count from 0, an epoch has {steps_per_epoch})."
            )
        if not wrong:
            stamps.append(stamp)
        problems += wrong
    return stamps, problems + _conflicts(stamps, layers)


def _grid_stamps(
    config: ScheduleConfig, grid: Sequence[Sequence[str]], layers: Sequence[ConvLayer], end: int | None, replicas: int
) -> tuple[list[Stamp], list[str]]:
    """One stamp for each cell of the grid."""
    everyone, _ = choose(None, "schedule.grid", replicas)
    if len(grid) != len(layers):
        what = f"`schedule.name`: {config.name!r} is a grid of" if config.name else "`schedule.grid`: it has"
        return [], [f"{what} {len(grid)} rows, one a layer, but the model has {describe(layers)}."]
    methods = {name: cell.build() for name, cell in config.cells.items()}
    return [
        Stamp("schedule.grid", (row,), 0, end, len(names), step, methods.get(name) or make(name, {}), choice=everyone)
        for row, names in enumerate(grid)
        for step, name in enumerate(names)
        if end is None or step < end
    ], []


def _select(rule: Rule, where: str, layers: Sequence[ConvLayer]) -> tuple[tuple[int, ...], list[str]]:
    """Layers (from 0) that `layers`, `stride` and `path` select together."""
    model = f"The model has {describe(layers)}."
    if isinstance(rule.layers, LayerRange):
        stop = len(layers) if rule.layers.stop is None else rule.layers.stop
        numbers = range(rule.layers.start, stop + 1, rule.layers.every)
        beyond = [n for n in (rule.layers.start, stop) if n > len(layers)]
    else:
        numbers = rule.layers or range(1, len(layers) + 1)
        beyond = [n for n in numbers if n > len(layers)]
    if beyond:
        return (), [f"`{where}.layers`: there is no layer {', '.join(map(str, dict.fromkeys(beyond)))}. {model}"]
    problems: list[str] = []
    selected = [layers[n - 1] for n in sorted(set(numbers))]
    if rule.path is not None:
        if not any(fnmatchcase(layer.path, rule.path) for layer in layers):
            problems.append(f"`{where}.path`: {rule.path!r} matches no layer. {model}")
        selected = [layer for layer in selected if fnmatchcase(layer.path, rule.path)]
    if rule.stride is not None:
        if all(layer.stride != rule.stride for layer in layers):
            problems.append(f"`{where}.stride`: no layer has stride {rule.stride}. {_strides(layers)}")
        selected = [layer for layer in selected if layer.stride == rule.stride]
    if not selected and not problems:
        strides = f" {_strides(layers)}" if rule.stride is not None else ""
        problems.append(f"`{where}`: no layer meets all of its conditions on layers. {model}{strides}")
    return tuple(layer.number - 1 for layer in selected), problems


def _window(rule: Rule, end: int | None, calendar: Calendar) -> tuple[int, int | None]:
    """(begin, stop) of the steps before `end` that the rule is for, whichever of them it uses."""
    steps = rule.steps or StepRange()
    begin, stops = steps.start, [steps.stop, end]
    if rule.epochs:
        begin = max(begin, calendar.begin(rule.epochs.from_))
        stops.append(None if rule.epochs.to is None else calendar.end(rule.epochs.to))
    return begin, min((stop for stop in stops if stop is not None), default=None)


def _conflicts(stamps: Sequence[Stamp], layers: Sequence[ConvLayer]) -> list[str]:
    """Pairs of rules of the same order that put different methods into one cell: the first that are found."""
    found: dict[tuple[int, int], str] = {}
    looked_at: set[tuple[int, int]] = set()
    more: list[str] = []
    for count, (a, b) in enumerate(_rivals(stamps, len(layers)), start=1):
        if len(found) == MOST_CONFLICTS:
            more = ["`schedule.rules`: others may disagree as well."]
            break
        if count > MAX_RIVALS:
            more = [
                f"`schedule.rules`: more than {MAX_RIVALS:,} times, two rules of different methods and the same order "
                "are for one layer in the same steps. Give them an `order`, or write a `grid`."
            ]
            break
        if (b, a) in looked_at:
            continue
        looked_at.add((b, a))
        if (step := _first_common_step(stamps[a], stamps[b])) is not None:
            found[b, a] = _disagreement(stamps[a], stamps[b], step, layers)
    return [found[pair] for pair in sorted(found)] + more


def _rivals(stamps: Sequence[Stamp], layers: int) -> Iterator[tuple[int, int]]:
    """Pairs of stamps of one order and different methods that are for one layer, and begin before the other stops."""
    of_layer: list[list[int]] = [[] for _ in range(layers)]
    for number, stamp in enumerate(stamps):
        for layer in stamp.layers:
            of_layer[layer].append(number)
    for numbers in of_layer:
        begun: dict[int, dict[Method, list[int]]] = {}  # by order
        for b in sorted(numbers, key=lambda number: stamps[number].begin):
            stamp = stamps[b]
            of_order = begun.setdefault(stamp.order, {})
            for method in [*of_order]:
                if method != stamp.method:
                    of_order[method] = [a for a in of_order[method] if stamps[a].spans(stamp.begin)]
                    yield from ((min(a, b), max(a, b)) for a in of_order[method])
                    if not of_order[method]:
                        del of_order[method]
            of_order.setdefault(stamp.method, []).append(b)


def _disagreement(a: Stamp, b: Stamp, step: int, layers: Sequence[ConvLayer]) -> str:
    shared = sorted(set(a.layers) & set(b.layers))
    cells = ", ".join(f"{n + 1} {layers[n].path}" for n in shared[:3]) + (", ..." if shared[3:] else "")
    return (
        f"`{b.where}`: it disagrees with `{a.where}`: {a.method.label} there, {b.method.label} here, for layer {cells} "
        f"at step {step}. Give one of them a higher `order` (both have {a.order}): the higher one wins."
    )


def _first_common_step(a: Stamp, b: Stamp) -> int | None:
    """The first step at which both are used on one replica, or None: two congruences (Chinese remainder theorem)."""
    divisor = gcd(a.every, b.every)
    step = a.next_use(max(a.begin, b.begin))
    rounds, rest = divmod(b.anchor - step, divisor)
    if rest:
        return None
    modulus = b.every // divisor
    step += a.every * (rounds * pow(a.every // divisor, -1, modulus) % modulus)
    together = lcm(a.every, b.every)
    for common in range(step, step + together * lcm(a.choice.period, b.choice.period), together):
        if not (a.spans(common) and b.spans(common)):
            return None
        if not set(a.replicas(common)).isdisjoint(b.replicas(common)):
            return common
    return None


def describe(layers: Sequence[ConvLayer]) -> str:
    """All layers in one line; neighbours that share the first part of their path are one entry."""
    if not layers:
        return "no convolution that a schedule can reach"
    groups = [list(group) for _, group in groupby(layers, key=lambda layer: layer.path.split("/")[0])]
    parts = []
    for group in groups:
        first, last = group[0], group[-1]
        alone = f"{first.number} {first.path}"
        parts.append(alone if first is last else f"{first.number}-{last.number} {first.path} to {last.path}")
    if len(parts) > 8:
        parts = [*parts[:6], "...", parts[-1]]
    return f"{len(layers)} layers: {', '.join(parts)}"


def _strides(layers: Sequence[ConvLayer]) -> str:
    strides = sorted({layer.stride for layer in layers})
    groups = (f"stride {s}: {', '.join(str(x.number) for x in layers if x.stride == s)}" for s in strides)
    return f"The layers have {'; '.join(groups)}."
