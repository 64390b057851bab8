"""Bypass: in the first part of a run some residual blocks are left out, forward pass and all. Imports no jax.

A residual block whose last scale begins at zero is its own shortcut until an update moves that scale. As long as none
does, leaving the block out changes no output of the network and no gradient of its other parameters:

    y = x + s · branch(x),  s = 0:   y = x,  dx = dy,  and the branch's weights have a gradient of zero

So what a bypass gives up is the gradient of the scale and offset alone, and a run under it is one of a shallower
network that becomes deeper without a jump. Until then the block's layers are under `skip`, and its norms are held too.
It is static like the mask, and as pure a function of the step: a column with other blocks is another column.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from approxtrain.models.layer import ConvLayer
from approxtrain.schedule.config import Bypass
from approxtrain.schedule.phases import Phases, cut
from approxtrain.schedule.stamps import Calendar
from approxtrain_kernels.method import Method
from approxtrain_kernels.methods import make

Entries = Mapping[str, int]
"""Path of a block → the step from which on it is there."""


def entries_of(
    tables: Sequence[Bypass], layers: Sequence[ConvLayer], calendar: Calendar
) -> tuple[dict[str, int], list[str]]:
    """Of `schedule.bypass`, and what is wrong with it."""
    known, entries, problems = modules(layers), {}, []
    for number, table in enumerate(tables):
        where, enters = f"`schedule.bypass.{number}", calendar.end(table.to)
        chosen = [path for path in known if fnmatchcase(path, table.path)]
        if not chosen:
            listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
            problems.append(
                f"{where}.path`: {table.path!r} matches no module with a convolution that a schedule can reach: "
                f"{listed or 'there is none'}."
            )
        if not enters:
            problems.append(f"{where}.to` (={table.to!r}): it covers no step.")
        entries |= {path: max(enters, entries.get(path, 0)) for path in chosen}
    return entries, problems


def modules(layers: Sequence[ConvLayer]) -> list[str]:
    """Paths of the modules that convolutions are in: "stage1" and "stage1/0" of "stage1/0/conv2"."""
    parts = [layer.path.split("/") for layer in layers]
    return list(dict.fromkeys("/".join(names[:end]) for names in parts for end in range(1, len(names))))


def inside(path: str, blocks: Collection[str]) -> bool:
    """Whether a layer, or a parameter, is in one of these blocks."""
    return any(path.startswith(f"{block}/") for block in blocks)


def absent(entries: Entries, step: int) -> tuple[str, ...]:
    """The blocks that are left out at a step."""
    return tuple(sorted(block for block, enters in entries.items() if step < enters))


def skip_absent(
    cells: tuple[Method, ...], phases: Phases, entries: Entries, paths: Sequence[str]
) -> tuple[tuple[Method, ...], Phases]:
    """The phases, cut where a block comes in, with `skip` for the layers of those that are left out; `paths` of all
    layers."""
    if not entries:
        return cells, phases
    skip = make("skip")
    cells = cells if skip in cells else (*cells, skip)
    changed = []
    begin = phases[0][0]
    for first, mask in cut(phases, (enters for enters in entries.values() if enters > begin)):
        blocks = absent(entries, first)
        rows = np.array([inside(path, blocks) for path in paths])
        changed.append((first, np.where(rows[:, None], np.int8(cells.index(skip)), mask)))
    return cells, tuple(changed)
