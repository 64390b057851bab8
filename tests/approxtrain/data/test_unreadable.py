"""Data folders that cannot be read, that are not there, and that hold what nobody's program has written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from approxtrain import data
from approxtrain.config import DataConfig
from approxtrain.data import fetch, files, store
from approxtrain.errors import ConfigError, DataError

LONG = "a" * 300


def look(name: str, folder: Path | None = None) -> list[str]:
    """What is said by all that look for images."""
    config = DataConfig(name=name, dir=folder and str(folder))
    said = []
    for ask in (data.load, data.train_size, lambda _: store.verify(name, folder)):
        with pytest.raises(DataError) as caught:
            ask(config)
        said.append(str(caught.value))
    assert data.shape(config) is None
    return said


def test_a_name_that_no_file_can_have_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPROXTRAIN_DATA", str(tmp_path))
    for folder, name in ((None, LONG), (tmp_path, LONG), (tmp_path / LONG, "mine")):
        for text in look(name, folder):
            assert f"{LONG}` cannot be read: File name too long." in text or f"{LONG}/mine` cannot be read" in text


def test_a_folder_that_may_not_be_read_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # the superuser, who runs some tests, may read everything
    for text in look("mine", tmp_path):
        assert text == (
            f"`{tmp_path}` cannot be read: Permission denied. Make it readable for you, or give another path or name."
        )


def test_a_source_that_may_not_be_read_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        store.add(tmp_path / LONG, "mine", tmp_path)


@pytest.mark.gate
def test_a_user_without_a_home_is_told_to_name_a_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPROXTRAIN_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user has no entry either
    with pytest.raises(ConfigError, match=r"no home folder, .*: name one, data\.dir=PATH or APPROXTRAIN_DATA"):
        data.load(DataConfig(name="cifar10"))
    with pytest.raises(ConfigError, match="no home folder"):
        fetch.fetch()
    assert len(data.load(DataConfig(name="shapes")).train) == 10_000


def test_the_home_of_nobody_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "~nobody-of-that-name/x"
    with pytest.raises(DataError, match=f"`{nobody}`, because it does not exist"):
        store.verify("cifar10", nobody)
    with pytest.raises(DataError, match=f"`{nobody}` is neither an archive nor a folder"):
        store.add(Path(nobody), "mine")
    monkeypatch.setenv("APPROXTRAIN_DATA", nobody)
    assert store.folder() == Path(nobody)


def test_a_batch_that_would_fill_the_memory_is_not_read(tmp_path: Path, tiny) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    os.truncate(folder / "data_batch_3.bin", 123 * 2**30)  # sparse: it takes no room
    for ask in (lambda: data.load(DataConfig(name="mine", dir=str(folder))), lambda: store.verify("mine", folder)):
        with pytest.raises(DataError, match=r"data_batch_3\.bin` is larger than 1 GiB, and no batch of CIFAR is"):
            ask()


@pytest.mark.parametrize(
    "content", ["[]", '"text"', "3", "null", "{}", '{"sha256": "", "files": []}', '{"sha256": 3, "files": {}}']
)
def test_a_manifest_that_is_none_is_called_damaged(tmp_path: Path, tiny, content: str) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    (folder / "manifest.json").write_text(content)
    for ask in (lambda: data.load(DataConfig(name="mine", dir=str(folder))), lambda: store.verify("mine", folder)):
        with pytest.raises(DataError, match=r"manifest\.json` is damaged: .* Import the images again, or remove it"):
            ask()


def test_a_manifest_nested_without_end_is_called_damaged(tmp_path: Path, tiny) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is damaged"):
        store.verify("mine", folder)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_a_picture_that_claims_gigabytes_makes_no_room_for_them(tmp_path: Path, kind: str) -> None:
    """Each four bytes of it say so in turn; what `make soak` found in the length of a PNG's chunk."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((12, 9, 3), np.uint8)).save(file, kind)
    whole, path = file.getvalue(), tmp_path / "picture"
    tracemalloc.start()
    try:
        for at in range(0, min(len(whole), 200), 3):
            path.write_bytes(whole[:at] + b"\xed\xed\xed\xed" + whole[at + 4 :])
            with contextlib.suppress(DataError), warnings.catch_warnings(action="ignore"):
                files.read(path, (32, 32, 3))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_device_is_no_picture() -> None:
    with pytest.raises(DataError, match="cannot be read as a picture"):
        files.read(Path("/dev/zero"), (32, 32, 3))
