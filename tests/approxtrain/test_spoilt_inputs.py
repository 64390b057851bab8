"""Whatever is read from outside, spoilt: read, or refused by an error of ours. `make soak` does it a million times."""

from __future__ import annotations

import io
import os
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approxtrain.data import array_files, numpy_files
from approxtrain.errors import DataError
from tools.soak import inputs

number = st.integers(0, inputs.LARGEST)
edits = st.lists(st.tuples(number, number, number), min_size=1, max_size=4)


@pytest.mark.parametrize("reader", inputs.READERS, ids=lambda reader: reader.name)
def test_a_spoilt_input_is_read_or_refused_in_words(tmp_path: Path, reader: inputs.Reader) -> None:
    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(which=st.integers(0, 7), how=edits)
    def attempt(which: int, how: list[inputs.Edit]) -> None:
        inputs.read(reader, tmp_path, which, how)

    attempt()


@pytest.mark.parametrize("reader", inputs.READERS, ids=lambda reader: reader.name)
def test_what_is_whole_is_read(tmp_path: Path, reader: inputs.Reader) -> None:
    for number in range(len(reader.whole())):
        assert inputs.read(reader, tmp_path, number, [])


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def bomb(path: Path, size: int, shape: tuple[int, ...], labels: int = 1) -> Path:
    """An .npz with an array of this shape and `size` zeros for it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as file:
            file.write(header(shape))
            for _ in range(size // 2**20):
                file.write(bytes(2**20))
        with archive.open("y_train.npy", "w") as file:
            np.save(file, np.zeros(labels, np.int64))
    return path


def refused(path: Path) -> str:
    """What is said of it, which takes less than 100 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as caught:
        array_files.open_arrays(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    return str(caught.value)


def test_arrays_that_unpack_to_far_more_than_their_file_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(numpy_files, "SMALL", 2**22)
    path = bomb(tmp_path / "a.npz", 2**23, (2**11, 64, 64))
    assert "so tightly" in refused(path)
    monkeypatch.setattr(numpy_files, "SMALL", 2**24)
    assert "so tightly" not in refused(path)  # but its labels are too few


def test_an_array_that_declares_more_than_there_is_takes_no_memory_for_it(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.npz", 2**20, (2**30, 32, 32))
    assert "an array of 1,099,511,627,776 bytes where there are 1,048,576" in refused(path)
    (tmp_path / "npy").mkdir()
    (tmp_path / "npy/x_train.npy").write_bytes(header((2**40,)) + bytes(10))
    assert "where there are 10" in refused(tmp_path / "npy")
    (tmp_path / "npy/x_train.npy").write_bytes(header((-1, -10)) + bytes(10))
    assert "cannot be read" in refused(tmp_path / "npy")


def test_an_archive_that_unpacks_to_more_than_it_declares_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.npz", 2**24, (2**24,))
    content, size = path.read_bytes(), len(header((2**24,))) + 2**24
    whole, part = (number.to_bytes(4, "little") for number in (size, size - 2**24 + 100))
    assert content.count(whole) >= 1
    path.write_bytes(content.replace(whole, part))
    assert "cannot be read" in refused(path)


def test_a_file_with_gaps_that_says_it_is_large_is_refused_for_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "x_train.npy").write_bytes(header((10, 32, 32)))
    os.truncate(tmp_path / "x_train.npy", 2**40)  # sparse: it takes no room
    assert "an array of 10,240 bytes where there are 1,099,511," in refused(tmp_path)
