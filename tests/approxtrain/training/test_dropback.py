"""DropBack holds its budget at every step, whatever the schedule does, and is what its equation says."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approxtrain.config import OptimizerConfig
from approxtrain.training.dropback import DropBackState, budget, dropback
from approxtrain.training.moved import by_path, parts
from approxtrain.training.optimizer import what_is_left
from approxtrain.training.parallel import _hash
from approxtrain.training.step import TrainState
from approxtrain.training.workload import Workload
from tests.optimizers import SGD, arrays, assert_it_goes_on_bit_for_bit, begin, differing, joined, normal, step, task_of

SHAPES = {"a": {"kernel": (3, 4)}, "b": {"bias": (5,), "kernel": (2, 2, 3)}}
SIZE = 29


def draw(rng: np.random.Generator) -> dict:
    return normal(rng, shapes=SHAPES)


def zeros() -> dict:
    return arrays(jnp.zeros, SHAPES)


def ones() -> dict:
    """A gradient."""
    return arrays(lambda shape: jnp.ones((1, *shape)), SHAPES)


def choice(state: TrainState) -> dict:
    """Which weights may differ from their initial values."""
    (own,) = parts(state.opt_state, DropBackState)
    return own.tracked


def of_one(tree: dict) -> dict:
    return jax.tree.map(lambda leaf: leaf[0], tree)


@pytest.mark.parametrize("freeze", [None, 2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_ten_steps_are_those_of_the_equation_in_float64(momentum, freeze):
    rng, k = np.random.default_rng(7), 9
    task = task_of({"momentum": momentum, "dropback": {"keep": 9.5 / SIZE, "freeze": freeze}})
    state = begin(task, of_one(draw(rng)))
    start = np.concatenate([np.float64(leaf).ravel() for leaf in jax.tree.leaves(state.params)])
    w, velocity, tracked = start.copy(), np.zeros(SIZE), []
    advance = jax.jit(lambda state, gradient: step(task, state, gradient))
    for number in range(10):
        gradient = draw(rng)
        state = advance(state, gradient)

        velocity = momentum * velocity + np.concatenate([np.float64(g).ravel() for g in jax.tree.leaves(gradient)])
        moved = w - 0.05 * velocity
        if freeze is None or number < 2 * freeze:
            tracked.append(frozenset(np.argsort(-np.abs(moved - start))[:k].tolist()))
        w = np.where([i in tracked[-1] for i in range(SIZE)], moved, start)
        found = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(state.params)])
        np.testing.assert_allclose(found, w, rtol=0, atol=1e-6)
        assert set(np.flatnonzero(found != np.float32(start))) == tracked[-1]
    assert len(set(tracked)) > 1  # the choice was another at some step


TASK = task_of({"momentum": 0.5, "dropback": {"keep": 0.3}})
ADVANCE = jax.jit(lambda state, gradient, held, factors: step(TASK, state, gradient, held, factors))
NAMES = ("a/kernel", "b/bias", "b/kernel")


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(*[st.booleans()] * 3, st.integers(1, 3), st.booleans()), min_size=2, max_size=6),
)
def test_no_more_weights_than_the_budget_have_changed_after_any_step_whatever_is_held(seed, steps):
    rng = np.random.default_rng(seed)
    sizes = arrays(lambda shape: 10.0 ** rng.integers(-3, 4, shape), SHAPES)
    initial = jax.tree.map(jnp.multiply, of_one(draw(rng)), sizes)
    state = begin(TASK, initial)
    for *flags, factor, coarse in steps:
        # whole numbers, small ones among them: many moves are equally long, and some are none
        gradient = jax.tree.map(jnp.round, draw(rng)) if coarse else draw(rng)
        held = {name: jnp.asarray(flag) for name, flag in zip(NAMES, flags, strict=True)}
        before = by_path(state.params)
        state = ADVANCE(state, gradient, held, dict.fromkeys(NAMES, jnp.int32(factor)))
        after, own = by_path(state.params), choice(state)
        assert differing(state.params, initial) <= budget(SIZE, 0.3) == 8
        assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(own)) <= 8
        for name, flag in held.items():
            assert not flag or np.asarray(after[name]).tobytes() == np.asarray(before[name]).tobytes()


def test_two_seeds_at_once_have_the_bits_of_each_alone():
    rng = np.random.default_rng(3)
    seeds = [begin(TASK, of_one(draw(rng))) for _ in range(2)]
    both = joined(seeds)
    for number in range(5):
        gradients = [draw(rng) for _ in seeds]
        held = {"b/kernel": jnp.asarray(number == 2)}
        seeds = [ADVANCE(one, gradient, held, {}) for one, gradient in zip(seeds, gradients, strict=True)]
        both = ADVANCE(both, joined(gradients), held, {})
    for ours, theirs in zip(jax.tree.leaves(both), jax.tree.leaves(joined(seeds)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert what_is_left(both.params, both.opt_state) == {"weights": SIZE, "weights_kept": 8, "weights_kept_sd": 0}


def test_the_choice_is_over_all_parameters_together_and_of_equals_the_first():
    task = task_of({"momentum": 0.0, "dropback": {"keep": 5 / SIZE}})
    state = begin(task, zeros())
    gradient = ones()
    gradient["b"]["kernel"] = gradient["b"]["kernel"].at[0, 1, 1, 2].set(-3.0)
    own = choice(jax.jit(partial(step, task))(state, gradient))
    assert np.flatnonzero(own["a"]["kernel"]).tolist() == [0, 1, 2, 3]
    assert np.argwhere(np.asarray(own["b"]["kernel"][0])).tolist() == [[1, 1, 2]]
    assert not own["b"]["bias"].any()


def test_a_step_that_is_longer_is_ranked_and_put_back_by_its_real_length():
    task = task_of({"momentum": 0.0, "dropback": {"keep": 12 / SIZE}})
    gradient = jax.tree.map(lambda leaf: 2 * leaf, ones())
    gradient["a"]["kernel"] = jnp.ones((1, 3, 4))  # half as long, and three times so by its factor
    state = step(task, begin(task, zeros()), gradient, factors={"a/kernel": 3})
    np.testing.assert_allclose(state.params["a"]["kernel"], -0.15, rtol=1e-6)
    assert not np.any(state.params["b"]["kernel"])


def test_a_held_layer_takes_no_places_that_it_does_not_have():
    task = task_of({"dropback": {"keep": 5 / SIZE}})
    gradient = ones()
    gradient["a"]["kernel"] = jnp.full((1, 3, 4), 9.0)  # it would have moved farthest
    state = step(task, begin(task, zeros()), gradient, held={"a/kernel": True})
    assert [np.count_nonzero(leaf) for leaf in jax.tree.leaves(state.params)] == [0, 5, 0]


def test_in_a_loop_of_plain_optax_the_weights_are_put_back_but_for_rounding():
    rng = np.random.default_rng(1)
    initial = of_one(draw(rng))
    transformation = optax.chain(optax.sgd(0.1), dropback(4 / SIZE))
    params, state = initial, transformation.init(initial)
    for _ in range(3):
        gradient = of_one(draw(rng))
        updates, state = jax.jit(transformation.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
    differ = jax.tree.map(lambda w, w0: np.count_nonzero(np.abs(w - w0) > 1e-5), params, initial)
    assert sum(jax.tree.leaves(differ)) == 4
    with pytest.raises(ValueError, match="give `update` the parameters"):
        transformation.update(gradient, state)


def test_what_is_not_finite_is_never_put_back():
    task = task_of({"dropback": {"keep": 2 / SIZE}})
    gradient = ones()
    gradient["b"]["kernel"] = gradient["b"]["kernel"].at[0, 1, 1, 2].set(jnp.nan)
    assert np.isnan(step(task, begin(task, zeros()), gradient).params["b"]["kernel"]).any()


def test_an_optimiser_without_it_has_the_state_that_it_has_in_optax():
    state = task_of({}).optimizer.init(zeros())
    assert jax.tree.structure(state) == jax.tree.structure(optax.sgd(optax.constant_schedule(1.0), 0.9).init(zeros()))
    assert what_is_left(zeros(), state) == {}


SKIPPING = {"grid": [["full"] * 3, ["skip", "full", "skip"], ["full", "skip", "skip"]], "catch_up": True}
SKIPPED = {"second": (True, False, True), "third": (False, True, True)}


def assert_the_budget_holds_and_so_do_layers(found: list[TrainState], keep: float) -> None:
    k = budget(sum(leaf.size for leaf in jax.tree.leaves(found[0].params)), keep)
    for number, (before, after) in enumerate(pairwise(found)):
        assert 0 < differing(after.params, found[0].params) <= k
        for name, skipped in SKIPPED.items():
            same = np.array_equal(before.params[name]["kernel"], after.params[name]["kernel"])
            assert same or not skipped[number % 3]
    for name in SKIPPED:
        assert not np.array_equal(found[0].params[name]["kernel"], found[-1].params[name]["kernel"])


@pytest.mark.gate
def test_it_goes_with_a_schedule_and_on_from_a_checkpoint_bit_for_bit(assemble, pocket, tmp_path):
    table = {**SGD, "dropback": {"keep": 0.05, "freeze": "22%"}}  # of 18 steps, so that four choose
    bench = assemble(pocket, SKIPPING, mode="switch", optimizer=table)
    whole, _ = bench.run(6)
    assert_the_budget_holds_and_so_do_layers(whole, 0.05)
    choices = [choice(each) for each in whole]
    assert differing(choices[4], choices[1]) > differing(choices[6], choices[4]) == 0

    assert_it_goes_on_bit_for_bit(bench, whole, tmp_path)


@pytest.mark.long
def test_it_goes_with_a_schedule_whose_columns_are_programs(assemble, pocket):
    bench = assemble(pocket, SKIPPING, mode="host", optimizer={**SGD, "dropback": {"keep": 0.05}})
    assert_the_budget_holds_and_so_do_layers(bench.run(6)[0], 0.05)


@pytest.mark.long
def test_two_networks_trained_at_once_are_those_of_each_seed_alone(assemble, pocket):
    table = {**SGD, "dropback": {"keep": 0.1}}
    both = assemble(pocket, SKIPPING, seed=3, seeds=2, optimizer=table).run(5)[0][-1]
    for place, seed in enumerate((3, 4)):
        alone = assemble(pocket, SKIPPING, seed=seed, optimizer=table).run(5)[0][-1]
        for ours, its in zip(jax.tree.leaves(both.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(ours[place], its[0], rtol=0, atol=1e-5)


def test_its_flags_have_a_hash_by_which_the_copies_of_devices_are_compared():
    state = begin(TASK, zeros())
    flags = [choice(each)["a"]["kernel"] for each in (state, ADVANCE(state, ones(), {}, {}))]
    none, all_of_them = (int(_hash(each)) for each in flags)
    assert none != all_of_them


def test_a_choice_that_the_run_never_freezes_is_said_before_it_begins(configure):
    config = configure({"name": "full"}, optimizer={**SGD, "dropback": {"keep": 0.1, "freeze": 3}})
    assert Workload.of(config).without_effect("host") == [
        "optimizer.dropback.freeze=3 freezes nothing: the run has 3 epochs."
    ]
    assert OptimizerConfig.model_validate(config.optimizer.model_dump()) == config.optimizer
