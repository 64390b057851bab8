"""What to blame where a step came to a number that is not finite: layer, method and the step whose update caused it.

The forward pass is exact under every method, so what goes wrong in it is of the weights that the update before it made.
It goes through the layers in their order, and the backward pass against it: where several are not finite, the one that
each pass comes to first is named. Without `train.check` there is the loss alone to go by, and no layer to name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from approxtrain.training.finite import GRADIENT, STATE, STATISTICS, Place
from approxtrain.training.workload import Workload


class Blame:
    """Of one run in `folder` with these seeds; `places` are what its flags stand for."""

    def __init__(self, work: Workload, seeds: Sequence[int], places: Sequence[Place], folder: Path) -> None:
        self._work, self._seeds, self._places, self._folder = work, seeds, places, folder
        self._order: dict[str, tuple[int, int]] = {}
        """Module → where the forward pass comes to it: (number of the layer, 0, or 1 for a norm that follows it)."""
        for layer in work.model.layers:
            self._order |= {layer.path: (layer.number, 0)} | dict.fromkeys(layer.norms, (layer.number, 1))

    def __call__(self, step: int, place: int, loss: float, flags: np.ndarray | None, saved: Path) -> str | None:
        """What is told of the step `step`, counted from 0, of the seed at `place`; None where all of it is finite.

        `saved` is the last checkpoint.
        """
        found: dict[str, list[str]] = {GRADIENT: [], STATISTICS: [], STATE: []}
        for one, flag in zip(self._places, [] if flags is None else flags[place], strict=flags is not None):
            if flag:
                found[one.what].append(one.path)
        of_seed = f" of seed {self._seeds[place]}" if len(self._seeds) > 1 else ""
        if not math.isfinite(loss):
            told = self._of_loss(step, f"The loss of step {step + 1}{of_seed} is {loss}", found[STATISTICS])
        elif found[STATISTICS]:
            told = self._of_statistics(step, of_seed, found[STATISTICS])
        elif found[GRADIENT]:
            return self._advised(self._of_gradient(step, of_seed, found[GRADIENT]), step, saved)
        elif found[STATE]:
            return self._advised(self._of_update(step, of_seed, found[STATE]), step, saved)
        else:
            return None
        if step == 0:
            return f"{told}, before anything was trained: the network, its initial weights or the images are why."
        return self._advised(told, step - 1, saved)

    def _of_loss(self, step: int, what: str, statistics: Sequence[str]) -> str:
        if step == 0:
            return what
        methods = sorted({method.label for method in self._work.schedule.column(step - 1)})
        told = f"{what}, under the methods {', '.join(methods)} of step {step}, whose update came before it."
        if statistics:
            first, _ = self._chosen(statistics, min)
            told += f" The forward pass came first to no finite numbers behind {self._named(first, step - 1)}."
        return told

    def _of_statistics(self, step: int, of_seed: str, paths: Sequence[str]) -> str:
        first, more = self._chosen(paths, min)
        told = f"The statistics of `{first}`{more} are not finite in step {step + 1}{of_seed}"
        if step == 0:
            return told
        where = self._named(first, step - 1)
        return f"{told}, though its loss is: they are of what came behind {where}, whose update came before it."

    def _of_gradient(self, step: int, of_seed: str, paths: Sequence[str]) -> str:
        first, more = self._chosen(paths, max)
        column, (number, _) = self._work.schedule.column(step), self._rank(first, paths)
        above = ""
        if 0 < number < len(column) and not column[number].exact_dgrad:  # of layer `number` + 1
            above = f", or to the input gradient of {self._named(self._work.model.layers[number].path, step)}"
        return (
            f"The gradient of step {step + 1}{of_seed} is not finite, though its loss is: the backward pass came first "
            f"to that of {self._named(first, step)}{above}{more}."
        )

    def _of_update(self, step: int, of_seed: str, paths: Sequence[str]) -> str:
        first, more = self._chosen(paths, min)
        return (
            f"The update of step {step + 1}{of_seed}, by gradients that were finite, has made weights or moments that "
            f"are not, of {self._named(first, step)}{more}."
        )

    def _advised(self, told: str, step: int, saved: Path) -> str:
        """`told`, with what there is to go on from and what to try, after the update of `step`."""
        exact = all(method.label == "full" for method in self._work.schedule.column(step))
        fewer = "" if exact else ", or with fewer approximated cells"
        again = f"`approxtrain train --resume {quote(str(self._folder))} train.check=finite` names the layer. "
        return (
            f"{told} What was saved before is finite and stays in {saved}. "
            f"{'' if self._work.config.train.check else again}"
            f"Start a new run with a smaller `optimizer.learning_rate`{fewer}."
        )

    def _chosen(self, paths: Sequence[str], which: Callable[..., str]) -> tuple[str, str]:
        """The module that a pass comes to first, and how many others are told of."""
        first = which(paths, key=lambda path: self._rank(path, paths))
        return first, f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""

    def _rank(self, path: str, paths: Sequence[str]) -> tuple[int, int]:
        """What is no layer and no norm stands after the last layer where all layers are among `paths`, as when the
        backward pass begins with it; else before the first."""
        layers = self._work.model.layers
        after = all(layer.path in paths for layer in layers)
        return self._order.get(path, (len(layers) + 1 if after else 0, 0))

    def _named(self, path: str, step: int) -> str:
        """A module, with its layer and the method that the layer is under in a step."""
        number, norm = self._order.get(path, (0, 0))
        if not number:
            return f"`{path}`, which is exact"
        layer, method = self._work.model.layers[number - 1], self._work.schedule.column(step)[number - 1]
        of = f"`{path}` of " if norm else ""
        return f"{of}layer {number} (`{layer.path}`), under {method.label} in step {step + 1}"
