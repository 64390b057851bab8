"""One step: Adam as its paper has it, and what each method does to a weight and to its moments."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.models import Model, approximate
from approxtrain.training.moved import held_by
from approxtrain.training.seeds import over_seeds
from approxtrain.training.step import backward, optimizer_step, set_up

pytestmark = pytest.mark.both

NATIVE = True
FIRST, SECOND, THIRD = range(3)
NAMES = ("first", "second", "third")
B1, B2, EPSILON = 0.9, 0.999, 1e-8


def grid(*columns: str) -> dict:
    """A schedule from its columns, one letter a layer."""
    names = {"F": "full", "Z": "zero", "S": "skip", "R": "random"}
    return {"grid": [[names[column[layer]] for column in columns] for layer in range(len(columns[0]))]}


def kernel(tree, layer: int = SECOND) -> np.ndarray:
    return np.asarray(tree[NAMES[layer]]["kernel"])[0]  # of the one seed


def moments(state, layer: int = SECOND) -> tuple[np.ndarray, np.ndarray]:
    adam = state.opt_state[0]
    return kernel(adam.mu, layer), kernel(adam.nu, layer)


def learning_rate(step: int) -> float:
    return 0.01 * 0.8 ** (step / 6)  # conftest's settings: 200 images are six batches of 32


def softmax_gradient(x, w, b, labels):
    """Mean cross-entropy of x·w + b, and its gradients, in float64."""
    logits = x @ w + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(labels)), labels]).mean()
    p[np.arange(len(labels)), labels] -= 1
    return loss, x.T @ p / len(labels), p.mean(0)


def test_adam_is_the_formula_of_its_paper_with_a_rate_that_decays_at_every_step(configure):
    linear = Model("linear", "", "tests.networks:Linear", image_shape=(2, 2, 3))
    task, state = set_up(linear, configure({"name": "full"}), 6, jax.random.split(jax.random.key(0), 1))
    rng = np.random.default_rng(0)

    @jax.jit
    def step(state, x, labels, key):
        result = over_seeds(partial(backward, task, ()), "map")(state.params, state.stats, x, labels, key)
        return optimizer_step(task, state, result, {})

    weights = {name: np.asarray(state.params["logits"][name][0], np.float64) for name in ("kernel", "bias")}
    m, v = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for t in range(9):
        x, labels = rng.standard_normal((32, 2, 2, 3)).astype(np.float32), rng.integers(0, 10, 32)
        state, metrics = step(state, x[None], labels[None], jax.random.split(jax.random.key(0), 1))
        loss, *gradients = softmax_gradient(x.reshape(32, -1).astype(np.float64), *weights.values(), labels)
        np.testing.assert_allclose(metrics.loss, [loss], rtol=1e-5)
        for name, g in zip(("kernel", "bias"), gradients, strict=True):
            m[name], v[name] = B1 * m[name] + (1 - B1) * g, B2 * v[name] + (1 - B2) * g**2
            m_hat, v_hat = m[name] / (1 - B1 ** (t + 1)), v[name] / (1 - B2 ** (t + 1))
            weights[name] = weights[name] - learning_rate(t) * m_hat / (np.sqrt(v_hat) + EPSILON)
            np.testing.assert_allclose(state.params["logits"][name][0], weights[name], atol=2e-6)
    assert int(state.step) == 9


def test_the_learning_rate_decays_by_its_factor_in_an_epoch(assemble, pocket):
    task = assemble(pocket, {"name": "full"}).dispatch.task
    rates = [float(task.learning_rate(step)) for step in (0, 3, 6, 18)]
    assert rates == pytest.approx([0.01, 0.01 * 0.8**0.5, 0.008, 0.00512])


def test_zero_still_moves_the_weight_by_adams_moments(assemble, pocket):
    states, _ = assemble(pocket, grid("FFF", "FFF", "FZF")).run(3)
    (m, v), w = moments(states[2]), kernel(states[2].params)
    m, v = B1 * m.astype(np.float64), B2 * v.astype(np.float64)  # a gradient of zero
    np.testing.assert_allclose(moments(states[3]), (m, v), rtol=1e-5)
    moved = w - learning_rate(2) * (m / (1 - B1**3)) / (np.sqrt(v / (1 - B2**3)) + EPSILON)
    np.testing.assert_allclose(kernel(states[3].params), moved, atol=1e-6)
    assert np.abs(moved - w).max() > 1e-3


@pytest.mark.parametrize(
    ("mode", "seeds"),
    [
        ("host", {}),
        pytest.param("switch", {}, marks=pytest.mark.gate),
        ("switch", {"seeds": 2}),
        pytest.param("host", {"seeds": 2, "seeds_by": "vmap"}, marks=pytest.mark.gate),
    ],
)
def test_skip_holds_the_weight_and_its_moments_bit_for_bit_and_nothing_else(assemble, pocket, mode, seeds):
    states, _ = assemble(pocket, grid("FFF", "FFF", "FSF"), mode=mode, **seeds).run(3)
    before, after = ({jax.tree_util.keystr(path): leaf for path, leaf in _leaves(state)} for state in states[2:])
    same = {path for path in before if before[path].tobytes() == after[path].tobytes()}
    held = {path for path in before if "['second']['kernel']" in path}
    assert len(held) == 3  # weight, first and second moment
    assert same == held


def test_what_is_held_has_one_order_so_that_every_process_compiles_the_same_program(assemble, pocket):
    bench = assemble(pocket, grid("SSF", "FSS"), mode="switch")
    columns = bench.dispatch.schedule.columns
    found = held_by(pocket, columns, bench.state.params, jnp.int32(1), frozen_prefix=True)
    assert list(found) == sorted(found)
    as_first = {"first/kernel", "norm1/bias", "norm1/scale"}
    as_second = {"norm2/bias", "norm2/scale"}
    assert found.keys() == {"second/kernel", "third/kernel"} | as_first | as_second
    assert {name for name, flag in found.items() if bool(flag)} == {"second/kernel", "third/kernel"}
    assert [name for name, flag in found.items() if flag is True] == ["second/kernel"]


def _leaves(state):
    return jax.tree_util.tree_leaves_with_path(state)


def test_random_gradients_differ_between_steps_and_layers_and_repeat_for_a_seed(assemble, pocket):
    def drawn(seed: int) -> list[np.ndarray]:
        """Gradient of layers 2 and 3, which have one shape, at steps of two epochs: g = (m' − 0.9 m) / 0.1."""
        states, _ = assemble(pocket, grid("FRR"), seed=seed).run(7)
        pairs = [(states[step], states[step + 1], layer) for step in (0, 1, 6) for layer in (SECOND, THIRD)]
        return [(moments(after, k)[0] - B1 * moments(before, k)[0]) / (1 - B1) for before, after, k in pairs]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert [g.tobytes() for g in first] == [g.tobytes() for g in again]
    noise = np.stack([g.ravel() for g in first + other])
    assert np.abs(np.corrcoef(noise) - np.eye(12)).max() < 5 / noise.shape[1] ** 0.5
    assert noise.std() * 32 == pytest.approx(1, abs=5 / (2 * noise.size) ** 0.5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(assemble, pocket, monkeypatch):
    conv, seen = approximate.conv, set()

    def record(x, w, **options):
        seen.update((x.dtype, w.dtype))
        return conv(x, w, **options)

    monkeypatch.setattr(approximate, "conv", record)
    states, losses = assemble(pocket, {"name": "full"}, precision="bfloat16").run(2)
    assert seen == {jnp.dtype(jnp.bfloat16)}
    kept = {leaf.dtype for _, leaf in _leaves(states[-1]) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert kept == {np.dtype(np.float32)}
    exact = assemble(pocket, {"name": "full"}).run(2)[1]
    assert losses == pytest.approx(exact, rel=0.05)
    assert losses != exact


def test_the_sums_of_an_epoch_begin_again_with_the_next(assemble, pocket):
    states, losses = assemble(pocket, {"name": "full"}).run(8)
    assert states[6].loss_sum[0] == pytest.approx(sum(losses[:6]), rel=1e-6)
    assert states[8].loss_sum[0] == pytest.approx(sum(losses[6:]), rel=1e-6)
    assert 0 <= states[8].correct_sum[0] <= 64


def test_the_right_answers_of_an_epoch_are_counted_anew_in_the_next(assemble, pocket):
    bench = assemble(pocket, {"name": "full"})
    state, correct = bench.state, []
    for step in range(8):  # six are an epoch
        state, metrics = bench.dispatch(step, state, bench.images, bench.order)
        correct.append(float(metrics.correct[0]))
    assert sum(correct[:6]) > 0
    assert state.correct_sum[0] == sum(correct[6:])


def halved(x: np.ndarray) -> np.ndarray:
    """Images `[B, H, W, C]` of half the rows and columns, by the triangle of twice the width, in float64."""
    for axis in (1, 2):
        size = x.shape[axis]
        centres = 2 * np.arange(size // 2)[:, None] + 0.5
        weights = np.maximum(1 - np.abs(np.arange(size) - centres) / 2, 0)
        weights /= weights.sum(1, keepdims=True)
        x = np.moveaxis(np.tensordot(weights, x.astype(np.float64), (1, axis)), 0, axis)
    return x


@pytest.mark.parametrize(
    "mode", [pytest.param("host", marks=pytest.mark.gate), pytest.param("switch", marks=pytest.mark.long)]
)
def test_a_step_on_fewer_and_smaller_images_is_that_on_these_alone(assemble, pocket, mode):
    first = {"epochs": {"to": 1}}
    sized = {**grid("FZF"), "image_sizes": [{"size": 4, **first}], "image_shares": [{"share": 0.25, **first}]}
    small, plain = assemble(pocket, sized, mode=mode), assemble(pocket, grid("FZF"))
    dispatch, state = plain.dispatch, plain.state
    inputs = over_seeds(partial(dispatch.inputs, state.step, plain.images), "vmap")(plain.order, dispatch.keys)
    x = jnp.asarray(halved(np.asarray(inputs[0][0, ::4]))[None], jnp.float32)
    column, inputs = dispatch.schedule.column(0), (x, inputs[1][:, ::4], inputs[2])
    result = over_seeds(partial(backward, dispatch.task, column), "map")(state.params, state.stats, *inputs)
    expected, metrics = optimizer_step(dispatch.task, state, result, {})
    (_, found), _ = small.run(1)
    np.testing.assert_allclose(found.loss_sum, metrics.loss, rtol=1e-4)
    assert float(found.correct_sum[0]) == 4 * float(metrics.correct[0])  # told as of a whole batch
    for name in NAMES:
        np.testing.assert_allclose(found.params[name]["kernel"], expected.params[name]["kernel"], rtol=2e-3, atol=2e-5)
    assert len(small.dispatch.schedule.columns) == 2


def test_a_weight_that_waited_is_moved_as_often_as_it_waited_and_no_other(assemble, pocket):
    waiting = {**grid("SFF", "SFF", "FFF"), "frozen_prefix": True}
    caught_up = assemble(pocket, {**waiting, "catch_up": True}, mode="switch")
    plain = assemble(pocket, waiting, mode="switch")
    (*_, before, ours), _ = caught_up.run(3)
    (*_, theirs), _ = plain.run(3)
    of_layer = {"first": 3, "norm1": 3, "second": 1, "norm2": 1, "third": 1, "norm3": 1, "logits": 1}
    for module, factor in of_layer.items():
        for name, leaf in theirs.params[module].items():
            once = leaf - before.params[module][name]
            moved = ours.params[module][name] - before.params[module][name]
            np.testing.assert_allclose(moved, factor * once, rtol=1e-3, atol=1e-6, err_msg=f"{module}/{name}")
    assert [np.array_equal(a, b) for a, b in zip(*map(moments, (ours, theirs)), strict=True)] == [True, True]
