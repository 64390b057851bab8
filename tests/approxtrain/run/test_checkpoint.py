"""Checkpoints: bit for bit, whole or refused, and never fewer than before."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from approxtrain import disk
from approxtrain.errors import CheckpointError, DivergedError
from approxtrain.run import checkpoint

pytestmark = pytest.mark.both


def small(step: int) -> dict[str, np.ndarray]:
    return {"weight": np.full((4, 3), step, np.float32), "step": np.asarray(step, np.int32)}


def loaded_step(folder: Path) -> int:
    found = checkpoint.load_latest(folder, small(0))
    assert found is not None
    state, meta, _ = found
    np.testing.assert_array_equal(state["weight"], small(meta["step"])["weight"])
    return meta["step"]


def save(folder: Path, *steps: int) -> list[Path]:
    return [checkpoint.save(folder, step, small(step), {"step": step}) for step in steps]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same_bits(restored: object, saved: object) -> None:
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for found, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


@pytest.fixture(name="training_state", scope="module")
def _training_state() -> dict:
    """What a training step holds: paths with slashes, an optax state, many types, scalars, an empty array."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "stage1/0/conv1": {"kernel": jax.random.normal(keys[0], (3, 3, 4, 8))},
        "logits": {
            "kernel": jax.random.normal(keys[1], (8, 10), jnp.bfloat16),
            "bias": jnp.array([-0.0, 1e-45]),
        },
    }
    optimizer = optax.chain(optax.clip(1.0), optax.adam(optax.exponential_decay(0.1, 10, 0.9)))
    return {
        "params": params,
        "optimizer": optimizer.init(params),
        "counters": (jnp.int32(7), jnp.uint32(2**32 - 1), jnp.array(True)),
        "empty": jnp.zeros((0, 3)),
    }


def test_every_array_comes_back_bit_for_bit(tmp_path: Path, training_state: dict) -> None:
    path = checkpoint.save(tmp_path, 390, training_state, {"epoch": 1, "best": 0.1})
    assert path == tmp_path / "step-00000390"
    assert names(path) == ["arrays.npz", "meta.json"]
    state, meta, skipped = checkpoint.load_latest(tmp_path, training_state)
    assert_same_bits(state, training_state)
    assert (meta, skipped) == ({"epoch": 1, "best": 0.1}, [])


def test_an_abstract_tree_suffices_to_restore(tmp_path: Path, training_state: dict) -> None:
    state = {name: training_state[name] for name in ("params", "optimizer")}
    checkpoint.save(tmp_path, 1, state, {})
    restored, _, _ = checkpoint.load_latest(tmp_path, jax.eval_shape(lambda: state))
    assert_same_bits(restored, state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored))


def test_saving_is_silent(tmp_path: Path, training_state: dict, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path, 1, training_state, {})
    checkpoint.load_latest(tmp_path, training_state)
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_checkpoints_gives_none(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path / "absent", small(0)) is None
    (tmp_path / "step-twelve").mkdir()
    (tmp_path / "step-00000012").write_text("a file, no folder")
    (tmp_path / ".tmp-step-00000013").mkdir()
    assert checkpoint.load_latest(tmp_path, small(0)) is None


def test_the_newest_two_are_kept_and_the_newest_is_the_highest_step(tmp_path: Path) -> None:
    first, _, _ = save(tmp_path, 8, 9, 10)
    assert not first.exists()
    os.utime(tmp_path / "step-00000009", (2e9, 2e9))  # a later time stamp does not make it newer
    assert names(tmp_path) == ["step-00000009", "step-00000010"]
    assert loaded_step(tmp_path) == 10
    save(tmp_path / "long", 99_999_999, 100_000_000)  # whose name has a digit more
    assert loaded_step(tmp_path / "long") == 100_000_000


def test_a_bit_flip_in_any_file_is_caught_and_the_previous_checkpoint_used(tmp_path: Path) -> None:
    _, newest = save(tmp_path, 1, 2)
    draw = random.Random(0)
    assert names(newest) == ["arrays.npz", "meta.json"]
    for file in newest.iterdir():
        whole = file.read_bytes()
        for _ in range(20):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            file.write_bytes(damaged)
            state, _, skipped = checkpoint.load_latest(tmp_path, small(0))
            assert_same_bits(state, small(1))
            assert len(skipped) == 1
            assert skipped[0].startswith("step-00000002: ")
            assert file.name in skipped[0]
        file.write_bytes(whole)
    assert loaded_step(tmp_path) == 2


def test_every_bit_of_what_vouches_for_the_arrays_counts(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 2)
    file = path / "meta.json"
    whole = file.read_bytes()
    for position in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"meta\.json is damaged, or another version"):
            checkpoint.load_latest(tmp_path, small(0))


def _truncate(path: Path) -> None:
    os.truncate(path / "arrays.npz", (path / "arrays.npz").stat().st_size - 1)


def _empty_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


DAMAGE = {
    "truncated": (_truncate, "arrays.npz is damaged: its SHA-256 is not the one in meta.json"),
    "missing arrays": (lambda path: (path / "arrays.npz").unlink(), "arrays.npz is missing"),
    "missing meta": (lambda path: (path / "meta.json").unlink(), "meta.json is missing"),
    "empty meta": (lambda path: (path / "meta.json").write_text(""), "meta.json is damaged"),
    "other meta": (lambda path: (path / "meta.json").write_text("[]"), "meta.json is damaged"),
    "of format 2": (lambda path: (path / "meta.json").write_text('{"step":2}'), "another version of approxtrain"),
    "empty folder": (_empty_folder, "meta.json is missing"),
    "renamed": (lambda path: path.rename(path.with_name("step-00000003")), "meta.json is that of step 2"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_its_reason(tmp_path: Path, kind: str) -> None:
    _, newest = save(tmp_path, 1, 2)
    damage, reason = DAMAGE[kind]
    damage(newest)
    before = names(tmp_path)
    state, _, skipped = checkpoint.load_latest(tmp_path, small(0))
    assert_same_bits(state, small(1))
    assert [reason in line for line in skipped] == [True]
    assert names(tmp_path) == before


def test_where_all_are_bad_each_is_listed_and_none_deleted(tmp_path: Path) -> None:
    first, second = save(tmp_path, 1, 2)
    (first / "meta.json").unlink()
    (second / "arrays.npz").unlink()
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_latest(tmp_path, small(0))
    assert "step-00000001: meta.json is missing" in str(error.value)
    assert "step-00000002: arrays.npz is missing" in str(error.value)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(
    ("like", "reason"),
    [
        ({"weight": np.zeros((4, 5), np.float32), "step": np.int32(0)}, "weight float32[4,3] where"),
        (
            {"weight": np.zeros((4, 3), jnp.bfloat16), "step": np.int32(0)},
            "this run has weight bfloat16[4,3]",
        ),
        ({"kernel": np.zeros((4, 3), np.float32), "step": np.int32(0)}, "this run has kernel"),
        ({"step": np.int32(0)}, "2 arrays where this run has 1"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, like: dict, reason: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_latest(tmp_path, like)
    assert reason in str(error.value)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [jnp.nan, -jnp.inf])
def test_a_state_that_is_not_finite_is_refused_by_name(tmp_path: Path, dtype: type, value: float) -> None:
    save(tmp_path, 1)
    state = {"good": jnp.ones(3, dtype), "stage1/conv1": {"kernel": jnp.array([0, value, 1], dtype)}}
    with pytest.raises(DivergedError, match=r"stage1/conv1/kernel.* step 2"):
        checkpoint.save(tmp_path, 2, state, {})
    assert names(tmp_path) == ["step-00000001"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    checkpoint.save(tmp_path, 2, small(2), {"step": 2, "best": 0.5})
    assert checkpoint.load_latest(tmp_path, small(0))[1]["best"] == 0.5
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_after_a_fallback_the_damaged_checkpoint_never_pushes_out_the_good_one(tmp_path: Path) -> None:
    _, newest = save(tmp_path, 10, 20)
    _truncate(newest)
    assert loaded_step(tmp_path) == 10
    save(tmp_path, 15)
    assert names(tmp_path) == ["step-00000010", "step-00000015"]


def test_clean_removes_what_a_killed_save_left(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / ".tmp-step-00000003").mkdir()
    (tmp_path / ".tmp-step-00000003" / "arrays.npz").write_text("half")
    checkpoint.clean(tmp_path)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert loaded_step(tmp_path) == 2


def test_what_is_known_of_a_run_is_that_of_the_newest_checkpoint_that_says_it(tmp_path: Path) -> None:
    assert checkpoint.latest_meta(tmp_path / "absent") is None
    _, newest = save(tmp_path, 1, 2)
    assert checkpoint.latest_meta(tmp_path) == {"step": 2}
    (newest / "meta.json").write_text("")
    assert checkpoint.latest_meta(tmp_path) == {"step": 1}


def test_the_folder_of_a_run_is_flushed_when_its_first_checkpoint_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, sync = [], disk.sync
    monkeypatch.setattr(disk, "sync", lambda path: (flushed.append(path), sync(path)))
    save(tmp_path / "checkpoints", 1)
    assert flushed[0] == tmp_path  # which has the name of the new folder
    assert flushed[-1] == tmp_path / "checkpoints"
    flushed.clear()
    save(tmp_path / "checkpoints", 2)
    assert tmp_path not in flushed
