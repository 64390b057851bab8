"""`skip`: the weight is not updated in this step and its optimiser moments are held (a frozen layer).

dW is zero here; what makes it differ from `zero` is `updates_weight = False`, which the training step honours.
"""

from __future__ import annotations

from dataclasses import dataclass

from approxtrain_kernels.methods.zero import Zero


@dataclass(frozen=True)
class Skip(Zero):
    name = "skip"
    summary = "no update: the weight and its optimiser moments are held"
    colour = "#6a5acd"
    updates_weight = False
