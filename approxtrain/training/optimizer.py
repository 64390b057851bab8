"""The optimiser and its learning rate, by optax, as the `[optimizer]` table says.

Weight decay is for the kernels of convolutions and linear layers, not for norms and biases: it is left out of every
parameter with a single axis. In `sgd` it is added to the gradient before the momentum, as everybody's SGD has it; in
`adamw`, `lion` and `muon` it is decoupled.

What a method does to a layer is the same under each of them. `zero` gives a gradient of zeros: momentum, moments and
weight decay go on as they do with any gradient. `skip` leaves the weight and all that is kept of it as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from approxtrain.config import Config, OptimizerConfig
from approxtrain.models import Model
from approxtrain.models.channels import channels_of
from approxtrain.run.summary import over_seeds
from approxtrain.schedule.bypass import entries_of, inside
from approxtrain.schedule.stamps import Calendar
from approxtrain.training.dropback import dropback, kept
from approxtrain.training.moved import Factors, by_path, lengthened, parts
from approxtrain.training.prunetrain import channel_masks, group_lasso, pruned

Tree = Any
NOTHING: Factors = {}


def learning_rate(config: OptimizerConfig, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """Step, counted from 0 → learning rate: a rise from 0 over the warm-up, then what `rate` names to the last step."""
    peak, warmup = config.learning_rate, round(config.warmup * steps_per_epoch)
    left = max(total_steps - warmup, 1)
    match config.rate:
        case "constant":
            after = optax.constant_schedule(peak)
        case "exponential":
            after = optax.exponential_decay(peak, transition_steps=steps_per_epoch, decay_rate=config.decay)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, left, alpha=config.final)
        case "linear":
            after = optax.linear_schedule(peak, peak * config.final, left)
        case "onecycle":
            after = optax.cosine_onecycle_schedule(left, peak)
        case "step":
            falls = {round(share * total_steps) - warmup: config.decay for share in config.milestones}
            after = optax.piecewise_constant_schedule(peak, falls)
    if not warmup:
        return after
    # the first step of all takes 1/warmup of the rate and not 0, which would waste it
    rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rise, after], [warmup])


def optimizer(
    config: Config, rate: optax.Schedule, steps_per_epoch: int, model: Model
) -> optax.GradientTransformationExtraArgs:
    """The transformation of the gradient of one seed.

    Besides gradient, state and parameters it is told of a step its loss (`value`), and `factors` and `held`
    (`moved.py`), by default none: what constrains the weights has to see how far they really move.
    """
    table, rule = config.optimizer, _rule(config.optimizer, rate)
    if table.clip is not None:
        rule = optax.chain(optax.clip_by_global_norm(table.clip), rule)
    calendar = Calendar(steps_per_epoch, config.train.epochs)
    if config.schedule.bypass and table.name in ("adam", "adamw"):
        rule = of_newcomers(rule, entries_of(config.schedule.bypass, model.layers, calendar)[0])
    rule = _lengthened(rule)
    if (drop := table.dropback) is not None:
        return optax.chain(rule, dropback(drop.keep, None if drop.freeze is None else calendar.end(drop.freeze)))
    if (prune := table.prunetrain) is not None:
        groups = channels_of(model.layers, model.classes)
        masks = channel_masks(groups, prune.threshold, calendar.end(prune.every))
        return optax.chain(group_lasso(groups, prune.ratio), rule, masks)
    return rule


def of_newcomers(
    rule: optax.GradientTransformation, entries: Mapping[str, int], b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
    """Adam, by whose state `rule` goes, with the bias correction of parameters that train from a later step on.

    After t steps of the run it divides the first moment by 1 − b1^t and the second by 1 − b2^t. The moments of a block
    that came in after e of them (`schedule/bypass.py`) have seen k = t − e gradients, and its steps would be up to six
    times as long as a new run's. So they are multiplied by

        (1 − b1^t) / (1 − b1^k) · √((1 − b2^k) / (1 − b2^t))
    """

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        updates, state = rule.update(updates, state, params)
        (adam,) = parts(state, optax.ScaleByAdamState)
        t = adam.count.astype(jnp.float32)

        def factor(enters: int) -> jax.Array:
            k = jnp.maximum(t - enters, 1)  # until then it is held
            return (1 - b1**t) / (1 - b1**k) * jnp.sqrt((1 - b2**k) / (1 - b2**t))

        factors = {
            name: factor(max(enters for block, enters in entries.items() if inside(name, [block])))
            for name in by_path(updates)
            if inside(name, entries)
        }
        return lengthened(updates, factors), state

    return optax.GradientTransformation(rule.init, update)


def _lengthened(rule: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`rule`, with the same state, whose updates are as long as the factors say."""

    def update(
        updates: Tree, state: Tree, params: Tree = None, *, factors: Factors = NOTHING, **_: Any
    ) -> tuple[Tree, Tree]:
        updates, state = rule.update(updates, state, params)
        return lengthened(updates, factors), state

    return optax.GradientTransformationExtraArgs(rule.init, update)


def _rule(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    decay, momentum = config.weight_decay, config.momentum
    match config.name:
        case "sgd":
            step = optax.sgd(rate, momentum or None, config.nesterov)
            return optax.chain(optax.add_decayed_weights(decay, is_decayed), step) if decay else step
        case "adam":
            return optax.adam(rate)
        case "adamw":
            return optax.adamw(rate, weight_decay=decay, mask=is_decayed)
        case "lion":
            return optax.lion(rate, weight_decay=decay, mask=is_decayed)
        case "muon":
            return optax.contrib.muon(
                rate,
                beta=momentum,
                nesterov=config.nesterov,
                weight_decay=decay,
                weight_decay_mask=is_decayed,
                muon_weight_dimension_numbers=_matrices,
            )


def is_decayed(params: Tree) -> Tree:
    """Which parameters decay: those with more than one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _matrices(params: Tree) -> Tree:
    """How Muon reads a kernel `[Kh, Kw, Ci, Co]` or `[C, C']` as a matrix; None for what Adam takes."""

    def of(leaf: jax.Array) -> Any:
        if leaf.ndim < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map(of, params)


def what_is_left(params: Tree, opt_state: Tree) -> dict[str, float]:
    """Figures for the summary, over the seeds; none where all weights train freely."""
    channels, found = pruned(params, opt_state)
    found |= kept(params, opt_state)
    if not found:
        return {}
    figures: dict[str, float] = {"weights": sum(leaf[0].size for leaf in jax.tree.leaves(params))}
    figures |= {"channels": channels} if channels else {}
    for name, values in found.items():
        figures |= over_seeds(name, values)
    return figures
