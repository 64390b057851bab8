"""Training with blocks that are left out at first: what is held, what is not computed, and a resume in between."""

from __future__ import annotations

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from approxtrain.config import dump
from approxtrain.errors import ConfigError
from approxtrain.run import checkpoint
from approxtrain.run.folder import RunFolder
from approxtrain.training.loop import Run
from approxtrain.training.moved import by_path
from approxtrain.training.optimizer import of_newcomers
from approxtrain.training.workload import Workload
from tests.replicas import Interrupted, Stop

pytestmark = pytest.mark.gate

FIRST_EPOCH = {"bypass": [{"path": "blocks/0", "to": 1}]}


def train(folder, config, stop: int = 0) -> dict[str, np.ndarray]:
    """The arrays of the newest checkpoint, by their path."""
    with RunFolder.open(folder) if folder.exists() else RunFolder.create(folder) as opened:
        opened.config.write_text(dump(config))
        with contextlib.suppress(Interrupted):
            Run(config, opened, Stop(stop)).train()
        return checkpoint.load_arrays(opened.checkpoints)[0]


@pytest.mark.parametrize("mode", [pytest.param("host", marks=pytest.mark.long), "switch"])
def test_a_block_is_held_up_to_its_epoch_and_then_trains(tmp_path, configure, mode):
    config = configure({**FIRST_EPOCH, "dispatch": mode}, model="tests.networks:Residual", epochs=2, checkpoint_every=6)
    with RunFolder.create(tmp_path / "none") as folder:
        initial = Run(config, folder, Stop(0)).initial
        begun = by_path({"params": initial.params, "stats": initial.stats})
    early, late = train(tmp_path / "early", config, stop=7), train(tmp_path / "late", config)
    moments = [name for name in early if "/mu/" in name or "/nu/" in name]
    assert moments
    for name in [*begun, *moments]:
        first = np.asarray(begun[name]) if name in begun else np.zeros_like(early[name])
        assert np.array_equal(early[name], first) == ("/blocks/0/" in name), name
        assert not np.array_equal(late[name], early[name]), name


def test_a_run_that_is_stopped_before_and_goes_on_is_the_whole_one_bit_for_bit(tmp_path, configure):
    config = configure(FIRST_EPOCH, model="tests.networks:Residual", epochs=2, checkpoint_every=4)
    whole = train(tmp_path / "whole", config)
    train(tmp_path / "parts", config, stop=5)
    found = train(tmp_path / "parts", config)
    assert found.keys() == whole.keys()
    assert {name for name in whole if found[name].tobytes() != whole[name].tobytes()} == set()


@pytest.mark.parametrize(
    "more",
    [
        {"seeds": 2, "average": 0.9},
        pytest.param({"chunk": 4, "check": "finite"}, marks=pytest.mark.long),
        pytest.param({"verify_every": 3}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_it_goes_with_what_else_a_run_may_do(tmp_path, configure, more):
    config = configure(FIRST_EPOCH, model="tests.networks:Residual", epochs=2, checkpoint_every=6, **more)
    early, late = train(tmp_path / "early", config, stop=8), train(tmp_path / "late", config)
    scale = "params/blocks/0/norm2/scale"
    assert not early[scale].any()
    assert late[scale].any()


def test_what_is_left_out_is_not_probed(tmp_path, configure):
    schedule = {**FIRST_EPOCH, "rules": [{"method": "zero", "layers": [5]}]}
    config = configure(schedule, model="tests.networks:Residual", epochs=2, probe_every=2)
    train(tmp_path / "run", config)
    rows = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert {row["layer"] for row in rows if row["kind"] == "probe"} == {5}


def test_dropback_which_would_never_let_a_block_move_is_refused(configure):
    table = {"name": "sgd", "dropback": {"keep": 0.5}}
    config = configure(FIRST_EPOCH, model="tests.networks:Residual", optimizer=table)
    with pytest.raises(ConfigError, match="have not moved: leave out one of the two"):
        Workload.of(config)


def test_under_adam_a_block_that_comes_in_steps_as_if_its_run_had_just_begun():
    """In float64, by the formula of Adam's paper, of a block that trains from step 40 on."""
    enters, steps, rate = 40, 120, 0.01
    gradients = np.random.default_rng(0).normal(1, 0.5, (steps, 2))
    rule = of_newcomers(optax.adam(rate), {"block": enters})
    params = {"block": {"w": jnp.zeros(())}, "rest": jnp.zeros(())}
    state = rule.init(params)
    with_hold = jax.jit(rule.update)
    ours, m, v, right = [], np.zeros(2), np.zeros(2), []
    for step, (of_block, of_rest) in enumerate(gradients):
        begun = step >= enters
        gradient = {"block": {"w": jnp.float32(of_block if begun else 0)}, "rest": jnp.float32(of_rest)}
        updates, state = with_hold(gradient, state)
        if begun:
            ours.append([float(updates["block"]["w"]), float(updates["rest"])])
        g = np.array([of_block if begun else 0.0, of_rest])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        t = np.array([max(step + 1 - enters, 1), step + 1])
        if begun:
            right.append(-rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))
    np.testing.assert_allclose(ours, right, rtol=2e-4)


def test_a_network_that_would_jump_is_refused_before_anything_is_trained(configure):
    config = configure({"bypass": [{"path": "block", "to": 1}]}, model="tests.networks:OtherOps")
    with pytest.raises(ConfigError, match="block makes"):
        Workload.of(config)


def test_a_block_that_never_comes_in_is_told(configure):
    config = configure({"bypass": [{"path": "blocks/0", "to": 9}]}, model="tests.networks:Residual")
    assert "schedule.bypass: blocks/0 never comes in: the run has 18 steps." in [*Workload.of(config).warnings("host")]
