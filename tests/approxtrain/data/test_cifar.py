"""Reading CIFAR-10's two forms: the same images from both, no pickle, nothing damaged taken for whole."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from approxtrain.data import cifar, pickles, store
from approxtrain.errors import DataError


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return cifar.decode(cifar.read(path))


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def test_red_green_and_blue_planes_become_pixels(tmp_path: Path, tiny) -> None:
    images, labels, test_images, _ = read(tiny.folder(tmp_path, tiny.binary))
    assert images.shape == (100, 32, 32, 3)
    assert test_images.shape == (20, 32, 32, 3)
    record = tiny.binary["cifar-10-batches-bin/data_batch_2.bin"][3 * 3073 :]  # image 23
    assert labels[23] == record[0]
    row, column = 5, 7
    planes = [record[1 + 1024 * colour + 32 * row + column] for colour in range(3)]
    assert images[23, row, column].tolist() == planes


def test_archive_and_folder_binary_and_python_hold_the_same_images(tmp_path: Path, tiny) -> None:
    sources = [
        tiny.folder(tmp_path, tiny.binary),
        tiny.folder(tmp_path, tiny.python),
        tiny.archive(tmp_path / "b.tar.gz", tiny.binary),
        tiny.archive(tmp_path / "p.tar.gz", tiny.python),
    ]
    first = read(sources[0])
    for source in sources[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(first, read(source), strict=True)), source


def test_nothing_is_unpickled_and_nothing_is_extracted(tmp_path: Path, tiny, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("unpickled or extracted")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("extract", "extractall"):
        monkeypatch.setattr(tarfile.TarFile, name, refuse)
    archive = tiny.archive(tmp_path / "p.tar.gz", tiny.python)
    assert len(read(archive)[1]) == 100
    assert list(tmp_path.iterdir()) == [archive]


def test_a_pickle_that_would_run_a_program_is_read_as_text(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    with pytest.raises(ValueError, match="no array"):
        pickles.read_batch(pickle.dumps({"labels": [1], "data": Harmful()}, protocol=2))
    assert not (tmp_path / "harm").exists()


def test_what_python_2_wrote_is_read() -> None:
    """The official files: byte strings (U, T) where Python 3 writes text."""
    pixels = bytes(range(256)) * 12
    key = b"U\x06labelsq\x01]q\x02K\x07aU\x04dataq\x03"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + pixels + b"tb"
    )
    found, labels = pickles.read_batch(b"\x80\x02}q\x00(" + key + array + b"u.")
    assert labels.tolist() == [7]
    assert found.tobytes() == pixels


@pytest.mark.parametrize(
    "content",
    [
        {"labels": [1, 2], "data": np.zeros((1, 3072), np.uint8)},
        {"labels": [1], "data": np.zeros((1, 3072), np.int8)},
        {
            "labels": [1, 2],
            "data": np.asfortranarray(np.arange(6144).reshape(2, 3072) % 251).astype(np.uint8),
        },
        {"labels": [], "data": np.zeros((0, 3072), np.uint8)},
        {"data": np.zeros((1, 3072), np.uint8)},
        [1, 2, 3],
    ],
    ids=["more labels than images", "signed bytes", "columns first", "empty", "no labels", "no dictionary"],
)
def test_a_pickle_of_another_shape_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="it holds"):
        pickles.read_batch(pickle.dumps(content, protocol=2))


def damaged_folders() -> list:
    short = "not a whole number of 3,073-byte records"
    return [
        pytest.param("binary", lambda b: b[:-1], short, id="cut off"),
        pytest.param("binary", lambda b: b"", short, id="empty"),
        pytest.param("binary", lambda b: b"\x0a" + b[1:], "has the label 10", id="label above 9"),
        pytest.param("python", lambda b: b[: len(b) // 2], "not a batch of the Python archive", id="half a pickle"),
        pytest.param("python", lambda b: b"<html>", "not a batch of the Python archive", id="a page for a pickle"),
    ]


@pytest.mark.parametrize(("form", "change", "message"), damaged_folders())
def test_a_damaged_batch_is_named(tmp_path: Path, tiny, form: str, change, message: str) -> None:
    members = dict(getattr(tiny, form))
    name = list(members)[3]
    members[name] = change(members[name])
    with pytest.raises(DataError, match=message) as error:
        read(tiny.folder(tmp_path, members))
    assert name.split("/")[1] in str(error.value)


def test_a_missing_batch_is_named(tmp_path: Path, tiny) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_4\.bin missing"):
        cifar.read(folder)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("cifar-10-batches-bin/data_batch_1.bin", link("cifar-10-batches-bin/data_batch_1.bin")),
        ("cifar-10-batches-bin/x", link("cifar-10-batches-bin/x", tarfile.LNKTYPE)),
        ("cifar-10-batches-bin/pipe", link("cifar-10-batches-bin/pipe", tarfile.FIFOTYPE)),
        ("../evil", b"x"),
        ("/evil", b"x"),
    ],
    ids=["symlink", "hard link", "pipe", "parent", "absolute"],
)
def test_an_archive_with_a_link_or_an_outside_path_is_refused(tmp_path: Path, tiny, name: str, member) -> None:
    archive = tiny.archive(tmp_path / "sub.tar.gz", {**tiny.binary, name: member})
    with pytest.raises(DataError, match="a link, a device or a path out of the archive"):
        cifar.read(archive)
    assert list(tmp_path.iterdir()) == [archive]


def test_a_member_that_comes_twice_is_refused(tmp_path: Path, tiny) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for _ in range(2):
            header = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
            tar.addfile(header)
    (tmp_path / "a.tar.gz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="twice"):
        cifar.read(tmp_path / "a.tar.gz")


def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path: Path, tiny) -> None:
    whole = tiny.archive(tmp_path / "a.tar.gz", tiny.binary).read_bytes()
    for length in (30, len(whole) // 2, len(whole) - 100, len(whole) - 4):
        (tmp_path / "a.tar.gz").write_bytes(whole[:length])
        with pytest.raises(DataError, match="damaged or cut off"):
            cifar.read(tmp_path / "a.tar.gz")


def test_a_flipped_byte_in_an_archive_is_noticed_even_without_an_official_sum(tmp_path: Path, tiny) -> None:
    whole = bytearray(tiny.archive(tmp_path / "a.tar.gz", tiny.binary).read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(whole)
    with pytest.raises(DataError):
        read(tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><title>Moved</title>", "a web page"),
        (b"PK\x03\x04", "no gzip file"),
        (b"", "no gzip file"),
        (gzip.compress(b"text, not a tar"), "damaged or cut off"),
    ],
    ids=["web page", "zip", "empty", "gzip of something else"],
)
def test_a_file_that_is_no_archive_is_told_from_one(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        cifar.read(tmp_path / "cifar-10-binary.tar.gz")


def test_an_archive_without_all_batches_says_what_it_has(tmp_path: Path, tiny) -> None:
    members = dict(list(tiny.binary.items())[:2])
    with pytest.raises(DataError, match=r"lacks the batches.*data_batch_1\.bin, .*data_batch_2\.bin\."):
        cifar.read(tiny.archive(tmp_path / "a.tar.gz", members))


def hundred(label: int) -> tuple[bytes, bytes]:
    """Two images of CIFAR-100, of a coarse label 7 and a fine one: a binary batch, and the pickle of the same."""
    pixels = np.random.default_rng(label).integers(0, 256, (2, 3072), dtype=np.uint8)
    content = {
        "coarse_labels": [7, 7],
        "data": pixels,
        "fine_labels": [label, 99],
        "filenames": ["data", "fine_labels"],
    }
    binary = b"".join(bytes([7, fine]) + row.tobytes() for fine, row in zip((label, 99), pixels, strict=True))
    return binary, pickle.dumps(content, protocol=2)


@pytest.mark.parametrize("form", ["binary", "python"])
def test_cifar100_is_read_by_its_fine_labels(tmp_path: Path, tiny, form: str) -> None:
    place, suffix = ("cifar-100-binary", ".bin") if form == "binary" else ("cifar-100-python", "")
    which = form == "python"
    members = {f"{place}/{name}{suffix}": hundred(label)[which] for name, label in (("train", 42), ("test", 0))}
    for source in (tiny.folder(tmp_path, members), tiny.archive(tmp_path / "a.tar.gz", members)):
        images, labels, test_images, test_labels = read(source)
        assert (images.shape, labels.tolist(), test_labels.tolist()) == ((2, 32, 32, 3), [42, 99], [0, 99])
        assert images[0, 0, 0, 0] == hundred(42)[0][2]
        assert test_images[1, 31, 31, 2] == hundred(0)[0][-1]
        batches = cifar.read(source)
        assert (batches.layout.dataset, len(batches.layout.classes)) == ("cifar100", 100)
        assert not all(check.passed for check in cifar.official_checks(batches))


def test_the_bytes_of_cifar10_are_not_those_of_cifar100(tmp_path: Path, tiny, make_official) -> None:
    archive = tiny.archive(tmp_path / "cifar-10-binary.tar.gz", tiny.binary)
    make_official(binary=archive)
    with pytest.raises(DataError, match="holds cifar10, and not `cifar100`"):
        store.read("cifar100", archive)
