"""The optimisers are optax's, step by step; and `zero` and `skip` mean the same under each of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from approxtrain.config import Config, OptimizerConfig
from approxtrain.models import Model
from approxtrain.training.moved import by_path
from approxtrain.training.optimizer import learning_rate
from tests.networks import Linear

LINEAR = Model("linear", "", "tests.networks:Linear", image_shape=(2, 2, 3))
DECAYED = {"logits": {"bias": False, "kernel": True}}


def sgd(rate):
    return optax.chain(optax.add_decayed_weights(0.01, DECAYED), optax.sgd(rate, 0.9, nesterov=True))


def muon(rate):
    matrices = {"logits": {"bias": None, "kernel": optax.contrib.MuonDimensionNumbers((0,), 1)}}
    return optax.contrib.muon(
        rate,
        beta=0.9,
        weight_decay=0.01,
        weight_decay_mask=DECAYED,
        muon_weight_dimension_numbers=matrices,
    )


PLAIN = {
    "sgd": ({"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "clip": 0.5}, sgd),
    "adam": ({}, optax.adam),
    "adamw": ({"weight_decay": 0.01}, lambda rate: optax.adamw(rate, weight_decay=0.01, mask=DECAYED)),
    "lion": ({"weight_decay": 0.01}, lambda rate: optax.lion(rate, weight_decay=0.01, mask=DECAYED)),
    "muon": ({"weight_decay": 0.01, "nesterov": True}, muon),
}
ALIKE = [name if name in ("sgd", "adamw") else pytest.param(name, marks=pytest.mark.gate) for name in PLAIN]
RATE = {"learning_rate": 0.02, "rate": "cosine", "warmup": 2.0, "final": 0.1}


@pytest.fixture
def assemble_with(configure, monkeypatch, request):
    """`assemble`, of a configuration with another [optimizer]."""

    def assemble_with(model, schedule, optimizer, **train):
        assemble = request.getfixturevalue("assemble")
        monkeypatch.setattr(
            "tests.approxtrain.conftest.Config.model_validate",
            lambda table: Config(**{**table, "optimizer": optimizer}),
        )
        return assemble(model, schedule, **train)

    return assemble_with


@pytest.mark.parametrize("name", PLAIN)
def test_a_hundred_steps_are_those_of_plain_optax_on_plain_nnx(name, assemble_with):
    options, plain = PLAIN[name]
    bench = assemble_with(LINEAR, {"name": "full"}, {"name": name, **RATE, **options}, epochs=17, augment=False)
    dispatch, keys = bench.dispatch, jax.tree.map(lambda leaf: leaf[0], bench.dispatch.keys)

    graph, params = nnx.split(Linear(10, image_shape=(2, 2, 3), rngs=nnx.Rngs(keys.init)))
    params = nnx.to_pure_dict(params)
    steps = 17 * 6
    rate = optax.join_schedules(
        [optax.linear_schedule(0.02 / 12, 0.02, 11), optax.cosine_decay_schedule(0.02, steps - 12, 0.1)], [12]
    )
    optimizer = plain(rate)
    if "clip" in options:
        optimizer = optax.chain(optax.clip_by_global_norm(options["clip"]), optimizer)
    state, order = optimizer.init(params), bench.order[0]

    @jax.jit
    def step(number, params, state):
        x, labels, _ = dispatch.inputs(number, bench.images, order, keys)

        def loss(params):
            logits = nnx.merge(graph, params)(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    ours = bench.state
    for number in range(100):
        ours, _ = dispatch(number, ours, bench.images, bench.order)
        params, state = step(jnp.int32(number), params, state)
    for path, leaf in by_path(params).items():
        np.testing.assert_allclose(by_path(ours.params)[path][0], leaf, rtol=0, atol=1e-6)
    assert np.abs(params["logits"]["bias"]).max() > 0.01


@pytest.mark.parametrize("name", ALIKE)
def test_skip_holds_a_weight_and_all_that_is_kept_of_it_under_every_optimiser(name, assemble_with, pocket):
    options, _ = PLAIN[name]
    grid = {"grid": [["full"], ["skip"], ["full"]]}
    bench = assemble_with(pocket, grid, {"name": name, "learning_rate": 0.02, **options})
    first, second = bench.run(2)[0][1:]
    before, after = by_path(first[1:4]), by_path(second[1:4])
    of_second = [path for path in before if path.endswith("second/kernel")]
    assert len(of_second) >= 2
    assert all(before[path].tobytes() == after[path].tobytes() for path in of_second)
    assert any(before[path].tobytes() != after[path].tobytes() for path in before if path.endswith("first/kernel"))


@pytest.mark.parametrize("name", ALIKE)
def test_zero_is_a_gradient_of_zeros_under_every_optimiser(name, assemble_with, pocket):
    options, _ = PLAIN[name]
    options = {key: value for key, value in options.items() if key != "clip"}  # which looks at all gradients
    grid = {"grid": [["full", "full"], ["full", "zero"], ["full", "full"]]}
    bench = assemble_with(pocket, grid, {"name": name, "learning_rate": 0.02, **options})
    before, after = bench.run(2)[0][1:]
    optimizer = bench.dispatch.task.optimizer
    one = jax.tree.map(lambda leaf: leaf[0] if np.ndim(leaf) else leaf, before)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, one.params), one.opt_state, one.params)
    expected = optax.apply_updates(one.params, updates)["second"]["kernel"]
    np.testing.assert_allclose(after.params["second"]["kernel"][0], expected, rtol=1e-5, atol=1e-7)
    assert np.abs(expected - one.params["second"]["kernel"]).max() > 1e-4  # it moves all the same


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rate": "constant"}, {0: 1.0, 99: 1.0}),
        ({"rate": "exponential", "decay": 0.5}, {0: 1.0, 10: 0.5, 25: 0.5**2.5}),
        ({"rate": "cosine"}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"rate": "linear", "final": 0.2}, {0: 1.0, 50: 0.6, 100: 0.2}),
        ({"rate": "step", "decay": 0.1, "milestones": (0.5, 0.9)}, {49: 1.0, 51: 0.1, 91: 0.01}),
        ({"rate": "cosine", "warmup": 2.0}, {0: 0.05, 9: 0.5, 19: 1.0, 20: 1.0, 60: 0.5, 100: 0.0}),
        ({"rate": "onecycle"}, {0: 0.04, 30: 1.0}),
    ],
)
def test_the_learning_rate_takes_the_course_that_its_name_says(options, expected):
    rate = learning_rate(OptimizerConfig(learning_rate=1.0, **options), steps_per_epoch=10, total_steps=100)
    assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, abs=1e-6)


def test_labels_are_smoothed_in_training_and_not_in_validation(assemble, pocket):
    plain, smooth = (assemble(pocket, {"name": "full"}, label_smoothing=share) for share in (0.0, 0.2))
    assert plain.run(1)[1] != smooth.run(1)[1]
    from approxtrain.training.step import losses

    logits, labels = jnp.asarray([[2.0, 0.0, 1.0]]), jnp.asarray([0])
    p = np.log(np.exp([2.0, 0.0, 1.0]) / np.exp([2.0, 0.0, 1.0]).sum())
    target = np.asarray([0.8, 0.0, 0.0]) + 0.2 / 3
    train = smooth.dispatch.train
    assert float(losses(train, logits, labels)[0]) == pytest.approx(-(target * p).sum(), rel=1e-6)


def test_the_average_of_the_weights_is_what_is_validated(assemble, pocket):
    states, _ = assemble(pocket, {"name": "full"}, average=0.9).run(3)
    average = np.float64(states[0].params["first"]["kernel"])
    for number, state in enumerate(states[1:]):
        share = min(0.9, (1 + number) / (10 + number))
        average = share * average + (1 - share) * state.params["first"]["kernel"]
        np.testing.assert_allclose(state.average["first"]["kernel"], average, rtol=1e-5, atol=1e-7)
        assert state.validated is state.average
    plain = assemble(pocket, {"name": "full"}).run(1)[0][-1]
    assert plain.validated is plain.params
