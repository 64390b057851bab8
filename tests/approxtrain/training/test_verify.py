"""`train.verify_every`: a step that comes out differently the second time ends the run; others change nothing."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.errors import VerificationError
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.training import verify
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run

TWO_COLUMNS = {"grid": [["full", "zero"], ["full", "random"], ["skip", "full"]]}


def start(path: Path, config) -> dict:
    with RunFolder.create(path) as folder:
        return Run(config, folder, Listener()).train()


@pytest.fixture(name="calls")
def _calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which the calls of a run begin, as it happens."""
    began: list[int] = []
    call = Dispatch.__call__

    def noted(self, step, *rest):
        began.append(step)
        return call(self, step, *rest)

    monkeypatch.setattr(Dispatch, "__call__", noted)
    return began


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that, in the second computation of step 5, counts from 0, turns the last bit of one weight over."""
    call, seen = Dispatch.__call__, []

    def wrong(self, step, *rest):
        state, metrics = call(self, step, *rest)
        seen.append(step)
        if seen.count(5) == 2 and step == 5:
            weights = np.array(state.params["second"]["kernel"])
            weights.view(np.uint32).flat[7] ^= 1
            state.params["second"]["kernel"] = jnp.asarray(weights)
        return state, metrics

    monkeypatch.setattr(Dispatch, "__call__", wrong)


@pytest.mark.gate
def test_one_bit_that_is_another_the_second_time_ends_the_run(tmp_path, configure, faulty):
    config = configure({"name": "full"}, verify_every=3, checkpoint_every=2)
    with pytest.raises(VerificationError) as error:
        start(tmp_path / "run", config)
    assert error.value.exit_code == 8
    saved = tmp_path / "run" / "checkpoints" / "step-00000004"
    assert str(error.value) == (
        "Step 6 was computed twice from the same state, and `params/second/kernel` came out with other bits: memory or "
        f"processor of this machine makes mistakes. The last checkpoint is {saved}. Go on from it on another machine: "
        f"approxtrain train --resume {tmp_path / 'run'}"
    )
    assert saved.is_dir()
    assert not (tmp_path / "run" / "diverged.json").exists()


@pytest.mark.gate
@pytest.mark.parametrize(
    ("mode", "train"),
    [
        ("host", {}),
        ("switch", {"chunk": 4}),
        ("host", {"seeds": 2, "average": 0.9}),
        pytest.param("switch", {}, marks=pytest.mark.long),
        pytest.param("host", {"chunk": 4}, marks=pytest.mark.long),
        pytest.param("switch", {"seeds": 2, "average": 0.9}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_a_run_that_is_verified_learns_the_same_bit_for_bit(tmp_path, configure, calls, train, mode):
    rows, seen = [], []
    for every in (None, 5):
        config = configure(TWO_COLUMNS | {"dispatch": mode}, epochs=2, verify_every=every, **train)
        summary = start(tmp_path / str(every), config)
        rows.append((tmp_path / str(every) / record.METRICS).read_bytes())
        seen.append(calls.copy())
        calls.clear()
    assert rows[0] == rows[1]
    once, twice = seen
    # of twelve steps the fifth and the tenth, counted from 1, by the calls that they are in
    spans = dict(zip(once, [*once[1:], 12], strict=True))
    due = [first for first, end in spans.items() if any(first < step <= end for step in (5, 10))]
    assert twice == sorted(once + due)
    assert summary["step_ms"]["n"] > 0


def test_a_nan_is_equal_to_itself_and_zeros_of_two_signs_are_not():
    one = jnp.array([jnp.nan, 1.0, 0.0])
    same, other = ([one, jnp.array([last], jnp.bfloat16), jnp.int32(3)] for last in (0.0, -0.0))
    assert not np.asarray(verify._differ(same, same)).any()
    assert np.asarray(verify._differ(same, other)).tolist() == [False, True, False]
