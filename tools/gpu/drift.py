"""How far the first losses of a training run are from themselves: run again, and with each weight one ulp higher.

It is the control for any comparison of two programs: losses agree at first and then drift apart, as those of any two
ways of rounding do.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from approxtrain.bench.step_bench import StepBench
from approxtrain.training.step import TrainState

STEPS = 20


def drift(bench: StepBench) -> dict[str, Any]:
    """The losses, how far others are from them step by step, and the largest of these distances."""
    dispatch, start, order = bench.dispatch(bench.schedule(bench.config.schedule))

    def losses(state: TrainState) -> list[float]:
        state = jax.tree.map(jnp.copy, state)  # a step gives its state's memory away
        found = []
        for step in range(STEPS):
            state, metrics = dispatch(step, state, bench.images, order)
            found.append(float(metrics.loss))
        return found

    one_ulp = start._replace(params=jax.tree.map(lambda p: jnp.nextafter(p, jnp.inf), start.params))
    plain = losses(start)
    others = {"run again": losses(start), "one ulp": losses(one_ulp)}
    apart = {name: [abs(a - b) for a, b in zip(plain, other, strict=True)] for name, other in others.items()}
    return {"first_losses": plain, "apart": apart, "largest": {name: max(steps) for name, steps in apart.items()}}
