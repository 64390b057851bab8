"""Archives that are made to take all time or all memory: refused in words, before what they declare is read."""

from __future__ import annotations

import gzip
import random
import tarfile
from pathlib import Path

import pytest

from approxtrain import data
from approxtrain.config import DataConfig
from approxtrain.data import cifar, pickles, store, tar_files
from approxtrain.errors import DataError

BATCH = "cifar-10-batches-bin/data_batch_1.bin"
LONG_NAME, ATTRIBUTES = tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE


def block(name: str = BATCH, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """One header."""
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    return header.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def attributes(text: bytes) -> bytes:
    """A header of extended attributes, with them."""
    return block("attributes", len(text), ATTRIBUTES) + padded(text)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (block(size=2**62), "larger than any archive"),
        (block("other", size=2**62) + block(), "larger than any archive"),
        (block("attributes", 2**40, ATTRIBUTES), "larger than any archive"),
        (block("name", 2**30 - 2**20, LONG_NAME), "larger than any archive"),
        ((block("name", 4, LONG_NAME) + padded(b"abc\0")) * 1001, "more than 1000 files"),
        (block() * 1001, "twice"),
        (block("other") * 1001, "more than 1000 files"),
        (attributes(b"28 GNU.sparse.map=0,x,1,y,2\n") + block(size=3) + padded(b"abc"), "a file with gaps"),
        (block(kind=tarfile.GNUTYPE_SPARSE), "a link, a device"),
        (block("\033[31mred", kind=tarfile.SYMTYPE), r"'\\x1b\[31mred', a link"),
        (block(kind=tarfile.DIRTYPE), "as no file"),
        (block(size=5000) + b"abc", "damaged or cut off"),
    ],
    ids=[
        "a batch of 2⁶² bytes",
        "another file of 2⁶² bytes",
        "attributes of 2⁴⁰ bytes",
        "a name of 1 GiB",
        "names of names",
        "one batch again and again",
        "many files",
        "a broken map of gaps",
        "gaps as GNU wrote them first",
        "colours for the terminal",
        "a folder for a batch",
        "a batch that is not there",
    ],
)
def test_a_hostile_header_is_refused_in_words(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cifar.read(write(tmp_path / "a.tar.gz", content + bytes(1024)))


def test_batches_are_refused_that_are_too_large_together(tmp_path: Path, tiny, monkeypatch) -> None:
    archive = tiny.archive(tmp_path / "a.tar.gz", tiny.binary)
    monkeypatch.setattr(tar_files, "LARGEST", 300_000)  # six of 61,460 bytes
    with pytest.raises(DataError, match=r"data_batch_5\.bin', with which it is larger"):
        cifar.read(archive)


def test_what_follows_the_end_of_an_archive_is_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tar_files, "LARGEST", 2**21)
    with pytest.raises(DataError, match="more after its end"):
        cifar.read(write(tmp_path / "a.tar.gz", block() + bytes(2**22)))


def test_an_archive_with_times_and_owners_of_its_files_is_read(tmp_path: Path, tiny) -> None:
    members = [
        attributes(b"20 mtime=1234567.89\n") + block(name, len(content)) + padded(content)
        for name, content in tiny.binary.items()
    ]
    folders = block("cifar-10-batches-bin", kind=tarfile.DIRTYPE) + block("a" * 100, 3) + padded(b"abc")
    archive = write(tmp_path / "a.tar.gz", folders + b"".join(members) + bytes(1024))
    assert cifar.read(archive).contents == tuple(tiny.binary.values())


def test_an_archive_of_an_official_name_is_opened_only_if_it_is_the_official_one(
    tmp_path: Path, tiny, make_official, monkeypatch
) -> None:
    official = tiny.archive(tmp_path / "official.tar.gz", tiny.binary)
    make_official(binary=official)
    other = write(tmp_path / "cifar-10-binary.tar.gz", block(size=2**62))

    def refuse(*_: object) -> None:
        raise AssertionError("opened")

    with monkeypatch.context() as patch:
        patch.setattr(tar_files, "read", refuse)
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz sha256 should be .*a name of their own"):
            data.load(DataConfig(name="cifar10", dir=str(other)))
        with pytest.raises(DataError, match="sha256 should be"):
            store.add(other, None, tmp_path / "data")
        _, checks = store.verify("cifar10", other)
        assert [(check.what, check.passed) for check in checks] == [("cifar-10-binary.tar.gz sha256", False)]
    assert data.load(DataConfig(name="cifar10", dir=str(official))).name == "cifar10"


def test_a_pickle_of_nothing_but_numbers_is_refused_before_they_fill_the_memory() -> None:
    with pytest.raises(ValueError, match="more instructions than images need"):
        pickles.read_batch(b"\x80\x02}U\x06labels](" + b"K\x07" * 100_000 + b"e.")


def test_an_archive_with_changed_bytes_is_read_or_refused_in_words(tmp_path: Path) -> None:
    draw = random.Random(0)
    whole = attributes(b"20 mtime=1234567.89\n") + block("x", 4, LONG_NAME) + padded(b"abc\0")
    whole += block("cifar-10-batches-bin/", kind=tarfile.DIRTYPE) + block(size=7) + padded(b"content") + bytes(1024)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.choice([0, 0x30, 0x37, 0x80, 0xFF, draw.randrange(256)])
        for start in range(0, len(content), 512):  # most headers whole, so that what they say is looked at
            if draw.random() < 0.8 and any(content[start : start + 512]):
                content[start + 148 : start + 156] = b" " * 8
                content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
        with pytest.raises(DataError):  # it never has all batches
            cifar.read(write(tmp_path / "a.tar.gz", bytes(content)))
