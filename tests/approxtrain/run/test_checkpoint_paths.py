"""Checkpoints under any path: what a folder is called decides neither what is stored nor where."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from approxtrain.errors import CheckpointError, DiskError
from approxtrain.run import array_store, checkpoint

ODD = ["a[1]", "a]b", "a*b", "a?b", "a\\b", "a b", "a\nb", "a'b\"c", "é", "%41", "~", "$x", os.fsdecode(b"\xff")]


def small(step: int) -> dict[str, np.ndarray]:
    return {"weight": np.full((4, 3), step, np.float32), "step": np.asarray(step, np.int32)}


@pytest.mark.parametrize("place", ["the folder", "a parent"])
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_checkpoint_comes_back_from_a_folder_of_any_name(tmp_path: Path, name: str, place: str) -> None:
    folder = tmp_path / name if place == "the folder" else tmp_path / name / "run"
    folder.mkdir(parents=True)
    for step in (1, 2):
        checkpoint.save(folder, step, small(step), {"step": step})
    found = checkpoint.load_latest(folder, small(0))
    assert found is not None
    state, meta, skipped = found
    assert (state["weight"].tolist(), meta, skipped) == (small(2)["weight"].tolist(), {"step": 2}, [])
    assert os.listdir(tmp_path) == [name]  # nothing was written beside it
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002"]


def test_orbax_sees_harmless_characters_only_and_no_link_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orbax.checkpoint as ocp

    seen: list[str] = []
    for name in ("save", "restore"):
        original = getattr(ocp.Checkpointer, name)

        def noting(self, path, *rest, original=original, **options):
            seen.append(str(path))
            return original(self, path, *rest, **options)

        monkeypatch.setattr(ocp.Checkpointer, name, noting)
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    (tmp_path / "a[1]").mkdir()
    checkpoint.save(tmp_path / "a[1]", 1, small(1), {})
    checkpoint.load_latest(tmp_path / "a[1]", small(0))
    assert len(seen) == 3  # written, read back, read
    assert [path for path in seen if "[" in path] == []
    assert list(links.iterdir()) == []


def test_an_odd_folder_for_temporary_files_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a[1]", "temporary[1]"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary[1]"))
    checkpoint.save(tmp_path / "a[1]", 1, small(1), {})
    assert checkpoint.load_latest(tmp_path / "a[1]", small(0)) is not None
    assert list((tmp_path / "temporary[1]").iterdir()) == []


def test_where_no_link_can_be_put_the_path_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_store.os, "access", lambda *_: False)
    (tmp_path / "a[1]").mkdir()
    with pytest.raises(DiskError, match=r"Name the run \(--out\) with letters, digits.* or set TMPDIR"):
        checkpoint.save(tmp_path / "a[1]", 1, small(1), {})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tensorstore's, when it fails
@pytest.mark.parametrize("name", ["a[1]", "a\\b"])
def test_a_checkpoint_that_orbax_wrote_wrongly_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    checkpoint.save(tmp_path / name, 1, small(1), {})
    monkeypatch.setattr(array_store, "_HARMLESS", array_store.re.compile("(?s).*"))  # shows Orbax the path itself
    with pytest.raises(CheckpointError, match="does not come back as it was: Orbax cannot read it"):
        checkpoint.save(tmp_path / name, 2, small(2), {})
    assert [path.name for path in (tmp_path / name).iterdir()] == ["step-00000001"]
