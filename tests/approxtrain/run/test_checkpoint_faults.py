"""Saving under a full disk, a forbidden folder and kill -9: the checkpoints that were there stay usable."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from approxtrain import disk
from approxtrain.errors import CheckpointError, DiskError
from approxtrain.run import checkpoint


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


@pytest.mark.parametrize(("module", "function"), [(disk, "sync"), (np, "savez")])
def test_a_full_disk_is_a_disk_error_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, function: str
) -> None:
    save(tmp_path, 1, 2)
    monkeypatch.setattr(module, function, _full)
    with pytest.raises(DiskError, match=r"step-00000003.*No space left on device\. Free some space\."):
        save(tmp_path, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert loaded_step(tmp_path) == 2


def _full(path: Path, **_: object) -> None:
    raise OSError(28, "No space left on device", str(path))


def test_a_real_write_error_is_a_disk_error(tmp_path: Path) -> None:
    """The limit on the size of a file stands in for a full disk: the kernel refuses the write itself."""
    save(tmp_path, 1)
    state = {"weight": np.random.default_rng(0).normal(size=500_000)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"step-00000002` cannot be written: File too large\."):
            checkpoint.save(tmp_path, 2, state, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["step-00000001"]


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(DiskError, match="checkpoints/step-00000001` cannot be written"):
        save(tmp_path / "checkpoints", 1)


def _one_weight_wrong(array: np.ndarray) -> np.ndarray:
    return np.asarray(array + (array == 3), array.dtype)


def _zeros_of_the_other_sign(array: np.ndarray) -> np.ndarray:
    return np.where(array == 0, -array, array)


@pytest.mark.parametrize("spoil", [_one_weight_wrong, _zeros_of_the_other_sign])
@pytest.mark.parametrize("step", [3, 2], ids=["a new one", "one in place of another"])
def test_a_checkpoint_that_comes_back_changed_is_removed_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil, step: int
) -> None:
    save(tmp_path, 1, 2)
    savez = np.savez
    monkeypatch.setattr(
        np, "savez", lambda path, **arrays: savez(path, **{name: spoil(arrays[name]) for name in arrays})
    )
    state = {"weight": np.array([[0, 3]], np.float32), "step": np.asarray(step, np.int32)}
    with pytest.raises(
        CheckpointError, match=r"step-0000000\d` was written, but does not come back .* comes back changed"
    ):
        checkpoint.save(tmp_path, step, state, {})
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert loaded_step(tmp_path) == 2


def test_arrays_of_another_shape_than_the_metadata_say_are_refused(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 1)
    np.savez(path / "arrays.npz", weight=np.zeros(12, np.float32), step=np.asarray(1, np.int32))
    meta = json.loads((path / "meta.json").read_text()) | {"sha256": checkpoint._sha256(path / "arrays.npz")}
    del meta["seal"]
    (path / "meta.json").write_text(checkpoint._to_json({"seal": checkpoint._seal(meta), **meta}))
    with pytest.raises(CheckpointError, match=r"another shape of weight than meta\.json says"):
        checkpoint.load_arrays(tmp_path)


SAVE_FOR_EVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from approxtrain.run import checkpoint
for step in itertools.count(int(sys.argv[2])):
    state = {"weight": np.full((4, 3), step, np.float32), "step": np.asarray(step, np.int32)}
    checkpoint.save(Path(sys.argv[1]), step, state, {"step": step})
    print(step, flush=True)
"""


@pytest.mark.gate
def test_kill_9_in_the_middle_of_a_save_costs_at_most_that_checkpoint(tmp_path: Path) -> None:
    draw = random.Random(os.getpid())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    step = 1
    for _ in range(4):
        command = [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path), str(step)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{step}\n"
            time.sleep(draw.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            reported = [step, *map(int, process.stdout.read().split())]
        checkpoint.clean(tmp_path)
        assert not [name for name in names(tmp_path) if name.startswith(".")]
        assert loaded_step(tmp_path) in (reported[-1], reported[-1] + 1)
        step = loaded_step(tmp_path) + 1
