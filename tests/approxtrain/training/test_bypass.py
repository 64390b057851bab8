"""Training with blocks that are left out at first: what is held, what is not computed, and a resume in between."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from approxtrain.config import dump
from approxtrain.errors import ConfigError
from approxtrain.run import checkpoint
from approxtrain.run.folder import RunFolder
from approxtrain.training.loop import Run
from approxtrain.training.moved import by_path
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


@pytest.mark.parametrize("mode", ["host", "switch"])
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


def test_a_network_that_would_jump_is_refused_before_anything_is_trained(configure):
    config = configure({"bypass": [{"path": "block", "to": 1}]}, model="tests.networks:OtherOps")
    with pytest.raises(ConfigError, match="block makes"):
        Workload.of(config)


def test_a_block_that_never_comes_in_is_told(configure):
    config = configure({"bypass": [{"path": "blocks/0", "to": 9}]}, model="tests.networks:Residual")
    assert "schedule.bypass: blocks/0 never comes in: the run has 18 steps." in [*Workload.of(config).warnings("host")]
