"""Where images are found, which bytes may go by which name, and how they are imported."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from approxtrain import data
from approxtrain.config import DataConfig
from approxtrain.data import store
from approxtrain.errors import ConfigError, DataError, DiskError


def config(name: str, folder: Path | None = None, **more: int) -> DataConfig:
    return DataConfig(name=name, dir=None if folder is None else str(folder), **more)


@pytest.fixture(autouse=True)
def empty_default_folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("APPROXTRAIN_DATA", str(tmp_path / "default"))
    return tmp_path / "default"


def test_other_bytes_are_refused_as_cifar10_and_accepted_under_their_own_name(tmp_path: Path, tiny) -> None:
    for source in (
        tiny.folder(tmp_path, tiny.binary),
        tiny.folder(tmp_path, tiny.python),
        tiny.archive(tmp_path / "a.tar.gz", tiny.binary),
    ):
        with pytest.raises(DataError, match=r"data\.name=NAME") as error:
            data.load(config("cifar10", source))
        assert error.value.exit_code == 3
        mine = data.load(config("mine", source))
        assert mine.name == "mine"
        assert mine.source == str(source)
        assert len(mine.sha256) == 64


def test_the_recorded_sum_is_of_the_images_however_they_are_packed(tmp_path: Path, tiny) -> None:
    binary = data.load(config("mine", tiny.folder(tmp_path, tiny.binary)))
    python = data.load(config("mine", tiny.archive(tmp_path / "p.tar.gz", tiny.python)))
    assert binary.sha256 == python.sha256
    changed = dict(tiny.binary)
    last = list(changed)[-1]
    changed[last] = changed[last][:-1] + bytes([changed[last][-1] ^ 1])
    other = data.load(config("mine", tiny.folder(tmp_path / "changed", changed)))
    assert other.sha256 != binary.sha256


def test_official_bytes_are_accepted_as_cifar10_and_one_changed_bit_is_not(tmp_path, tiny, make_official) -> None:
    archive = tiny.archive(tmp_path / "cifar-10-binary.tar.gz", tiny.binary)
    make_official(binary=archive)
    sources = [archive, tiny.folder(tmp_path / "b", tiny.binary), tiny.folder(tmp_path / "p", tiny.python)]
    assert {data.load(config("cifar10", source)).name for source in sources} == {"cifar10"}
    for source in sources:
        file = source if source.is_file() else sorted(source.iterdir())[2]
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
        with pytest.raises(DataError):
            data.load(config("cifar10", source))


def test_a_repacked_archive_is_not_the_official_one(tmp_path: Path, tiny, make_official) -> None:
    make_official(binary=tiny.archive(tmp_path / "official.tar.gz", tiny.binary))
    repacked = tiny.archive(tmp_path / "repacked.tar.gz", {**tiny.binary, "readme.txt": b"hello"})
    with pytest.raises(DataError, match="sha256 should be"):
        data.load(config("cifar10", repacked))


def test_a_batch_of_another_size_says_both_sizes(tmp_path: Path, tiny) -> None:
    with pytest.raises(DataError, match=r"data_batch_1\.bin bytes should be 30,730,000, and is 61,460"):
        data.load(config("cifar10", tiny.folder(tmp_path, tiny.binary)))


def test_images_are_found_in_the_folder_its_named_subfolder_or_an_archive_within(tmp_path: Path, tiny) -> None:
    tiny.folder(tmp_path / "direct", tiny.binary)
    tiny.folder(tmp_path / "named" / "mine", tiny.python)
    (tmp_path / "packed").mkdir()
    tiny.archive(tmp_path / "packed" / "cifar-10-python.tar.gz", tiny.python)
    for folder in ("direct", "direct/cifar-10-batches-bin", "named", "packed"):
        assert data.train_size(config("mine", tmp_path / folder)) == 100, folder


def test_the_environment_names_the_default_folder(empty_default_folder: Path, tiny) -> None:
    tiny.folder(empty_default_folder, tiny.binary)
    assert data.load(config("mine")).source == str(empty_default_folder / "cifar-10-batches-bin")


def test_without_the_environment_the_users_cache_is_the_default_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("APPROXTRAIN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert store.folder() == tmp_path / "cache" / "approxtrain"


def test_missing_images_name_three_ways_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        data.load(config("cifar10"))
    for way in ("approxtrain data fetch", "approxtrain data import PATH", "data.dir=PATH"):
        assert way in str(error.value)
    with pytest.raises(DataError, match="import PATH --name mine"):
        data.load(config("mine", tmp_path))


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b"])
def test_a_name_that_could_not_be_a_folder_is_an_error(tmp_path: Path, tiny, name: str) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    with pytest.raises(ConfigError, match=r"data\.name"):
        store.open_named(name, folder)
    with pytest.raises(ConfigError, match=r"data\.name"):
        store.add(folder, name)


def test_train_size_reads_no_image_and_counts_the_holdout(tmp_path: Path, tiny, monkeypatch) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    monkeypatch.setattr(Path, "read_bytes", None)
    assert data.train_size(config("cifar10", holdout=5_000)) == 45_000
    assert data.train_size(config("shapes", holdout=1_000)) == 9_000
    assert data.train_size(config("mine", folder, holdout=30)) == 70
    assert data.train_size(config("mine", folder, holdout=30, limit=50)) == 50
    assert data.train_size(config("mine", folder, holdout=30, limit=90)) == 70
    with pytest.raises(ConfigError, match="between 0 and 99"):
        data.train_size(config("mine", folder, holdout=100))


def test_train_size_agrees_with_what_is_loaded(tmp_path: Path, tiny) -> None:
    for source in (tiny.folder(tmp_path, tiny.binary), tiny.archive(tmp_path / "p.tar.gz", tiny.python)):
        wanted = config("mine", source, holdout=30)
        loaded = data.load(wanted)
        assert data.train_size(wanted) == len(loaded.train) == 70
        assert (len(loaded.validation), loaded.validated_on) == (30, "holdout")


@pytest.mark.parametrize("form", ["binary", "python"])
def test_imported_images_are_found_by_name_and_verified(tmp_path: Path, tiny, empty_default_folder, form: str) -> None:
    added = store.add(tiny.archive(tmp_path / "a.tar.gz", getattr(tiny, form)), "mine")
    found = data.load(config("mine"))
    assert found.sha256 == added.sha256
    assert np.array_equal(found.train.images, added.train.images)
    (written,) = (empty_default_folder / "mine").iterdir()
    manifest = json.loads((written / "manifest.json").read_text())
    assert (manifest["sha256"], manifest["train"], manifest["test"]) == (added.sha256, 100, 20)
    assert len(manifest["source_sha256"]) == 64
    _, checks = store.verify("mine")
    assert len(checks) == 7
    assert all(check.passed and check.expected for check in checks)


def test_imported_images_that_changed_since_are_refused(tmp_path: Path, tiny, empty_default_folder: Path) -> None:
    store.add(tiny.folder(tmp_path, tiny.binary), "mine")
    file = empty_default_folder / "mine" / "cifar-10-batches-bin" / "data_batch_2.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_2\.bin sha256 should be .*import them again"):
        data.load(config("mine"))
    _, checks = store.verify("mine")
    assert [check.what for check in checks if not check.passed] == ["data_batch_2.bin sha256"]


def test_import_without_a_name_takes_only_the_official_bytes(tmp_path: Path, tiny, make_official) -> None:
    folder = tiny.folder(tmp_path, tiny.python)
    with pytest.raises(DataError, match="--name NAME"):
        store.add(folder)
    make_official()
    assert store.add(folder).name == "cifar10"
    assert data.load(config("cifar10")).sha256 == store.add(folder, "copy").sha256


def test_import_never_writes_over_other_images(tmp_path: Path, tiny, empty_default_folder: Path) -> None:
    first = store.add(tiny.folder(tmp_path, tiny.binary), "mine")
    assert store.add(tiny.folder(tmp_path, tiny.python), "mine").sha256 == first.sha256  # the same images again
    changed = {name: content[:3073] for name, content in tiny.binary.items()}
    with pytest.raises(DataError, match="holds other images"):
        store.add(tiny.folder(tmp_path / "other", changed), "mine")
    assert data.load(config("mine")).sha256 == first.sha256


def test_the_name_of_drawn_images_cannot_be_imported(tmp_path: Path, tiny) -> None:
    with pytest.raises(ConfigError, match="the program draws"):
        store.add(tiny.folder(tmp_path, tiny.binary), "shapes")


def test_an_import_that_fails_leaves_nothing_behind(tmp_path, tiny, empty_default_folder, monkeypatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("approxtrain.disk.sync", full)
    with pytest.raises(DiskError, match="No space left"):
        store.add(tiny.folder(tmp_path, tiny.binary), "mine")
    assert list((empty_default_folder / "mine").iterdir()) == []


def test_reading_and_importing_open_no_socket(tmp_path: Path, tiny, monkeypatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    source = tiny.archive(tmp_path / "a.tar.gz", tiny.binary)
    store.add(source, "mine")
    assert len(data.load(config("mine")).train) == 100
    with pytest.raises(DataError, match="fetch"):
        data.load(config("cifar10"))


def test_data_imports_neither_jax_nor_urllib() -> None:
    program = "import sys, approxtrain.data; print([m for m in ('jax', 'urllib.request') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_environment())
    assert done.stdout.strip() == "[]", done.stderr


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}


@pytest.mark.real
@pytest.mark.long
def test_the_real_images_are_whole_balanced_and_not_called_cifar10(real_cifar: Path) -> None:
    loaded = data.load(config("cifar10-jpeg75", real_cifar))
    assert np.bincount(loaded.train.labels).tolist() == [5_000] * 10
    assert np.bincount(loaded.validation.labels).tolist() == [1_000] * 10
    assert loaded.train.images.shape == (50_000, 32, 32, 3)
    mean = loaded.train.images.mean(axis=(0, 1, 2), dtype=np.float64) / 255
    assert np.allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.003)  # of the official images; JPEG hardly moves it
    assert data.train_size(config("cifar10-jpeg75", real_cifar)) == 50_000
    with pytest.raises(DataError, match=r"data\.name=NAME"):
        data.load(config("cifar10", real_cifar))
