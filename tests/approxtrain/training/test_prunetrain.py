"""PruneTrain's penalty and masks are what their equations say, at every step and whatever the schedule holds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approxtrain import disk, models
from approxtrain.config import dump
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.models.channels import channels_of
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.moved import by_path, parts
from approxtrain.training.optimizer import what_is_left
from approxtrain.training.prunetrain import ChannelMasksState, GroupLassoState, channel_masks, group_lasso
from approxtrain.training.workload import Workload
from tests.optimizers import SGD, TWO, arrays, assert_it_goes_on_bit_for_bit, begin, joined, normal, step, task_of

CHANNELS = {"one/kernel": [3], "two/kernel": [2, 3]}
"""Of each kernel the axes of channels; the images' three are none."""
SKIPPING = {"grid": [["full"] * 3, ["skip", "full", "skip"], ["full", "skip", "skip"]], "catch_up": True}


def lasso(kernels: dict) -> float:
    total = 0.0
    for name, axes in CHANNELS.items():
        for axis in axes:
            others = tuple(other for other in range(4) if other != axis)
            total += np.sqrt((kernels[name] ** 2).sum(others) + 1e-8).sum()
    return total


def slope(kernels: dict, name: str) -> np.ndarray:
    """The derivative of the penalty by each weight of a kernel, by differences of it."""
    found = np.zeros_like(kernels[name])
    for place in np.ndindex(found.shape):
        w, h = kernels[name][place], 1e-6 * max(abs(kernels[name][place]), 1e-4)
        ends = []
        for end in (w + h, w - h):
            kernels[name][place] = end
            ends.append(lasso(kernels))
        kernels[name][place] = w
        found[place] = (ends[0] - ends[1]) / (2 * h)
    return found


def small_channels(params: dict) -> dict:
    """With one channel that stays small, one that is small at first, one that is nearly small."""
    two = params["two"]["kernel"].at[:, :, 1].multiply(1e-6).at[..., 2].multiply(1e-6)
    one = params["one"]["kernel"].at[..., 4].multiply(1e-6).at[0, 0, 0, 4].set(3e-4)
    return {**params, "one": {**params["one"], "kernel": one}, "two": {"kernel": two}}


def part_of(state, kind):
    (found,) = parts(state.opt_state, kind)
    return found


def test_nine_steps_are_those_of_the_equations_in_float64():
    rng = np.random.default_rng(5)
    table = {"ratio": 0.3, "threshold": 1e-4, "every": "30%"}  # of ten steps: after the third, sixth and ninth
    task = task_of({"momentum": 0.9, "learning_rate": 0.01, "prunetrain": table})
    state = begin(task, small_channels(jax.tree.map(lambda leaf: leaf[0], normal(rng))))
    w = {name: np.float64(leaf[0]) for name, leaf in by_path(state.params).items()}
    velocity = {name: np.zeros_like(leaf) for name, leaf in w.items()}
    zeroed = {name: np.zeros(leaf.shape, bool) for name, leaf in w.items()}
    advance = jax.jit(lambda state, gradient, loss: step(task, state, gradient, loss=loss))
    coefficient, pruned = None, []
    for number in range(9):
        loss = 2.3 - 0.1 * number
        gradient = jax.tree.map(lambda leaf: leaf.at[:, :, :, 1:2].set(0.0) if leaf.ndim == 5 else leaf, normal(rng))
        if number < 3:  # small gradients for the small channels, until they are pruned
            gradient["two"]["kernel"] = gradient["two"]["kernel"].at[:, :, :, 1].set(0).at[..., 2].set(0)
            gradient["one"]["kernel"] = gradient["one"]["kernel"].at[..., 4].set(0)
        state = advance(state, gradient, jnp.full(1, loss))

        if coefficient is None:
            penalty = lasso(w)
            coefficient = 0.3 / 0.7 * loss / penalty
            assert coefficient * penalty / (coefficient * penalty + loss) == pytest.approx(0.3)
        slopes = {name: slope(w, name) for name in CHANNELS}
        for name, g in by_path(gradient).items():
            velocity[name] = 0.9 * velocity[name] + np.float64(g[0]) + coefficient * slopes.get(name, 0)
            w[name] = np.where(zeroed[name], 0, w[name] - 0.01 * velocity[name])
        for name, axes in CHANNELS.items() if number % 3 == 2 else ():
            before = np.abs(w[name])
            for axis in axes:
                dead = before.max(tuple(other for other in range(4) if other != axis), keepdims=True) < 1e-4
                zeroed[name] |= dead
                w[name] = np.where(dead, 0, w[name])
        for name, leaf in by_path(state.params).items():
            np.testing.assert_allclose(leaf[0], w[name], rtol=0, atol=2e-6)
            if name in CHANNELS:
                np.testing.assert_array_equal(np.asarray(leaf[0]) == 0, zeroed[name])
        np.testing.assert_allclose(part_of(state, GroupLassoState).coefficient[0, 0], coefficient, rtol=1e-5)
        pruned.append(sum(int(z.sum()) for z in zeroed.values()))
    assert 0 == pruned[1] < pruned[2] == pruned[4]
    assert pruned[2] == 9 * 4 + 9 * 5 - 9  # the channels 1 in and 2 out of `two`, which have 9 weights in common


def test_a_channel_is_small_by_its_weights_after_the_step_and_of_them_by_those_that_are_left():
    table = {"ratio": 1e-6, "threshold": 0.2, "every": "10%"}  # of ten steps: after each
    task, params, gradient = task_of({"momentum": 0.0, "prunetrain": table}), arrays(jnp.ones), arrays(jnp.zeros)
    params["one"]["kernel"] = params["one"]["kernel"].at[..., 0].set(0.25).at[..., 1].set(0.15)
    params["two"]["kernel"] = params["two"]["kernel"].at[..., 3].set(0.3).at[:, :, 0].set(0.1)
    gradient["one"]["kernel"] = gradient["one"]["kernel"].at[..., 0].set(2.0).at[..., 1].set(-2.0)
    advance = jax.jit(lambda state, gradient: step(task, state, jax.tree.map(lambda leaf: leaf[None], gradient)))
    state = advance(begin(task, params), gradient)
    masks = part_of(state, ChannelMasksState)
    assert masks.outputs["one/kernel"][0].tolist() == [False, True, True, True, True]
    assert masks.inputs["two/kernel"][0].tolist() == [False, True, True, True, True]
    assert masks.outputs["two/kernel"].all()

    # its other weights become small, and the one that was pruned would become large
    gradient["two"]["kernel"] = gradient["two"]["kernel"].at[..., 3].set(3.0).at[:, :, 0, 3].set(-10.0)
    masks = part_of(advance(state, gradient), ChannelMasksState)
    assert masks.outputs["two/kernel"][0].tolist() == [True, True, True, False]


LIVELY = task_of({"momentum": 0.5, "prunetrain": {"ratio": 0.5, "threshold": 0.2, "every": "20%"}})
ADVANCE = jax.jit(lambda state, gradient, held, loss: step(LIVELY, state, gradient, held, loss=loss))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=7))
def test_a_pruned_channel_is_zero_for_good_and_a_small_one_is_pruned_when_it_is_due(seed, steps):
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: 0.05 * leaf[0], normal(rng))
    state, left, due = begin(LIVELY, params), {}, dict.fromkeys(CHANNELS, 0)
    for number, flags in enumerate(steps, start=1):
        held = {name: jnp.asarray(flag) for name, flag in zip(CHANNELS, flags, strict=True)}
        before = by_path(state.params)
        state = ADVANCE(state, jax.tree.map(lambda leaf: leaf * rng.random() * 3, normal(rng)), held, jnp.ones(1))
        masks = part_of(state, ChannelMasksState)
        for (name, axes), flag in zip(CHANNELS.items(), flags, strict=True):
            kernel = np.asarray(by_path(state.params)[name][0])
            assert not flag or kernel.tobytes() == np.asarray(before[name][0]).tobytes()
            looks, due[name] = number // 2 > due[name] and not flag, due[name] if flag else number // 2
            for axis in axes:
                ours = np.asarray((masks.inputs if axis == 2 else masks.outputs)[name][0])
                largest = np.abs(kernel).max(tuple(other for other in range(4) if other != axis))
                assert not largest[~ours].any()
                assert not (ours & ~left.get((name, axis), ours)).any()
                assert (largest[ours] >= 0.2).all() or not looks
                assert looks or (ours == left.get((name, axis), True)).all()
                left[name, axis] = ours
    figures = what_is_left(state.params, state.opt_state)
    assert figures["channels"] == 5 + 5 + 4
    assert figures["channels_pruned"] == sum(int((~ours).sum()) for ours in left.values())
    assert figures["weights"] - figures["weights_kept"] == sum(
        int((np.asarray(by_path(state.params)[name]) == 0).sum()) for name in CHANNELS
    )


def test_two_seeds_at_once_have_the_bits_of_each_alone():
    rng = np.random.default_rng(4)
    seeds = [begin(LIVELY, jax.tree.map(lambda leaf: 0.05 * leaf[0], normal(rng))) for _ in range(2)]
    both = joined(seeds)
    for number in range(4):
        gradients = [normal(rng) for _ in seeds]
        losses = [jnp.full(1, 1.0), jnp.full(1, 3.0)]
        held = {"two/kernel": jnp.asarray(number == 1)}
        seeds = [ADVANCE(*parts, held, loss) for *parts, loss in zip(seeds, gradients, losses, strict=True)]
        both = ADVANCE(both, joined(gradients), held, jnp.concatenate(losses))
    for ours, theirs in zip(jax.tree.leaves(both), jax.tree.leaves(joined(seeds)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    masks = part_of(both, ChannelMasksState)
    assert not np.array_equal(*masks.outputs["one/kernel"])
    assert what_is_left(both.params, both.opt_state)["channels_pruned_sd"] > 0
    first, second = part_of(both, GroupLassoState).coefficient[:, 0]
    assert second > 2 * first


def test_channels_of_images_and_classes_are_no_groups():
    assert channels_of(TWO.layers, 10) == {"one/kernel": [-1], "two/kernel": [-2, -1]}
    assert channels_of(TWO.layers, 4) == {"one/kernel": [-1], "two/kernel": [-2]}
    assert channels_of(TWO.layers[:1], 5) == channels_of([], 5) == {}
    groups = channels_of(models.get("cnn5").layers, 10)
    assert sum(map(len, groups.values())) == 2 * 5 - 1


def test_each_part_says_what_it_needs():
    params = arrays(jnp.ones)
    groups = channels_of(TWO.layers, 10)
    lone, masks = group_lasso(groups, 0.2), channel_masks(groups, 1e-4, 1)
    with pytest.raises(ValueError, match="the loss as `value`"):
        lone.update(params, lone.init(params), params)
    with pytest.raises(ValueError, match="give `update` the parameters"):
        masks.update(params, masks.init(params))


@pytest.mark.long
def test_it_goes_with_a_schedule_and_on_from_a_checkpoint_bit_for_bit(assemble, pocket, tmp_path):
    table = {**SGD, "prunetrain": {"threshold": 0.35, "every": "11%"}}  # of 18 steps: two
    bench = assemble(pocket, SKIPPING, mode="switch", optimizer=table)
    whole, _ = bench.run(6)
    pruned = [what_is_left(each.params, each.opt_state)["channels_pruned"] for each in whole]
    assert pruned[0] == pruned[1] == 0 < pruned[-1] < 3 * 8 + 2 * 8
    for before, after, layers in zip(
        whole[:-1], whole[1:], 2 * [{"second"}, {"third"}, {"second", "third"}], strict=True
    ):
        for name in layers:  # that are skipped
            np.testing.assert_array_equal(before.params[name]["kernel"], after.params[name]["kernel"])

    assert_it_goes_on_bit_for_bit(bench, whole, tmp_path)


@pytest.mark.long
def test_the_summary_of_a_run_says_what_is_left_of_each_seed(small, configure, tmp_path):
    table = {**SGD, "prunetrain": {"threshold": 0.35, "every": 1}}
    config = configure({"name": "full"}, epochs=1, seeds=2, optimizer=table)
    with RunFolder.create(tmp_path / "run") as folder:
        disk.write(folder.config, dump(config))
        summary = Run(config, folder, Listener()).train()
    assert summary["channels"] == 8 + 4 * 8
    assert 0 < summary["channels_pruned"] < 40
    assert summary["weights_kept"] + 0.5 < summary["weights"]
    assert {"channels_pruned_sd", "weights_kept_sd"} <= summary.keys()


def test_a_network_without_channels_to_prune_is_refused(configure):
    config = configure({"name": "full"}, model="tests.networks:Linear", optimizer={**SGD, "prunetrain": {}})
    with pytest.raises(ConfigError, match=r"`optimizer.prunetrain` prunes channels between convolutions, and .* none"):
        Workload.of(config)


def test_an_interval_longer_than_the_run_is_said_before_it_begins(configure):
    config = configure({"name": "full"}, optimizer={**SGD, "prunetrain": {"every": 4}})
    said = ["optimizer.prunetrain.every=4 prunes nothing: the run has 3 epochs."]
    assert Workload.of(config).without_effect("host") == said
    config = configure({"name": "full"}, optimizer={**SGD, "prunetrain": {"every": 3}})
    assert Workload.of(config).without_effect("host") == []


def test_the_layers_of_a_network_of_ones_own_are_found():
    model = Model("biased", "", "tests.networks:Biased")
    assert channels_of(model.layers, 10) == {"a/kernel": [-1], "b/kernel": [-2, -1]}
