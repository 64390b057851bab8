"""TFRecord files: read with their checksums, and made into ArrayRecord files, whole or not at all."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.record_writer import RecordWriter

from approxtrain.data import array_record, convert, example, tf_record
from approxtrain.errors import ConfigError, DataError, DiskError
from tests import records


def test_checksums_are_those_of_the_standard() -> None:
    """RFC 3720, B.4, and the check value of every table of checksums."""
    right = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E, b"123456789": 0xE3069283}
    assert {content: tf_record.crc32c(content) for content in right} == right


@given(st.integers(0, 9000), st.integers(0, 2**32 - 1))
def test_a_checksum_is_that_of_the_definition(size: int, seed: int) -> None:
    content = np.random.default_rng(seed).bytes(size % 4200)
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert tf_record.crc32c(content) == state ^ 0xFFFFFFFF


def test_records_of_another_writer_are_read(tmp_path: Path) -> None:
    writer = RecordWriter(str(tmp_path / "one.tfrecord"))
    for record in (b"hello", b"", bytes(9000)):
        writer.write(record)
    writer.close()
    assert list(tf_record.records(tmp_path / "one.tfrecord")) == [(b"hello", 21), (b"", 37), (bytes(9000), 9053)]
    content = b"".join(map(tf_record.framed, (b"hello", b"", bytes(9000))))
    assert (tmp_path / "one.tfrecord").read_bytes() == content


def tf_records(folder: Path, first_label: int = 0, **more: bytes) -> Path:
    folder.mkdir()
    for name, numbers in (("train-00000-of-00002", range(8)), ("train-00001-of-00002", range(8, 12))):
        content = (tf_record.framed(records.record(number, first_label, **more)) for number in numbers)
        (folder / name).write_bytes(b"".join(content))
    content = (tf_record.framed(records.record(number, first_label, **more)) for number in range(100, 106))
    (folder / "validation-00000-of-00001").write_bytes(b"".join(content))
    (folder / "notes.txt").write_text("no record")
    return folder


def test_the_images_are_those_of_the_source_in_its_order(tmp_path: Path) -> None:
    seen = []
    found = convert.convert(tf_records(tmp_path / "tf"), tmp_path / "to/pets", progress=lambda *at: seen.append(at))
    assert found.images == {"train": 12, "validation": 6}
    opened = array_record.open_records(tmp_path / "to/pets")
    assert [int(opened.train[i][0][0, 0, 0]) for i in range(12)] == list(range(12))
    assert [opened.validation[i][1] for i in range(6)] == [n % 3 for n in range(100, 106)]
    assert opened.class_names == ("0", "1", "2")
    total = sum(file.stat().st_size for file in (tmp_path / "tf").glob("*-of-*"))
    assert seen[-1] == (total, total)
    assert len(seen) == 18
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["pets"]


def test_labels_from_1_become_labels_from_0_and_the_classes_have_the_names_of_the_records(tmp_path: Path) -> None:
    (tmp_path / "tf").mkdir()
    named = [(1, b"n01", b"crane"), (3, b"n03", b" crane\n"), (1, b"n01", b"crane")]
    for key in ("synset", "text"):
        content = b""
        for label, synset, text in named:
            more = {f"image/class/{key}": synset if key == "synset" else text}
            features = {"image/encoded": records.png(label), "image/class/label": label, **more}
            content += tf_record.framed(example.written(features))
        (tmp_path / "tf/train.tfrecord").write_bytes(content)
        convert.convert(tmp_path / "tf", tmp_path / key, first_label=1)
    assert array_record.class_names(tmp_path / "synset") == ("n01", "1", "n03")
    assert array_record.class_names(tmp_path / "text") == ("crane (0)", "1", "crane (2)")
    assert [array_record.open_records(tmp_path / "text").train[i][1] for i in range(3)] == [0, 2, 0]


def test_a_name_is_one_line_whatever_the_record_says(tmp_path: Path) -> None:
    convert.convert(tf_records(tmp_path / "tf", **{"image/class/text": b"tench\n fish"}), tmp_path / "pets")
    assert array_record.class_names(tmp_path / "pets") == ("tench fish (0)", "tench fish (1)", "tench fish (2)")


def test_names_may_be_given(tmp_path: Path) -> None:
    source = tf_records(tmp_path / "tf")
    convert.convert(source, tmp_path / "pets", names=records.CLASSES)
    assert array_record.class_names(tmp_path / "pets") == records.CLASSES
    with pytest.raises(DataError, match="has the label 2, counted from 0, and there are 2 names"):
        convert.convert(source, tmp_path / "other", names=records.CLASSES[:2])


def damaged(content: bytes, kind: str) -> bytes:
    if kind == "cut off":
        return content[:-9]
    if kind == "another byte":
        return content[:200] + bytes([content[200] ^ 4]) + content[201:]
    if kind == "a length":
        return b"\xff" * 8 + content[8:]
    if kind == "a length that is right and large":
        header = struct.pack("<Q", 2**60)
        return header + tf_record._masked(header).to_bytes(4, "little") + content
    if kind == "no Example":
        return tf_record.framed(b"\x0a\xff")
    label = 2**40 if kind == "a label without bound" else -1
    return tf_record.framed(example.written({"image/encoded": b"", "image/class/label": label}))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut off", "`{}` ends within record 3: copy it again"),
        ("another byte", "`{}` is damaged in record 0, whose checksum is another one"),
        ("a length", "`{}` is no TFRecord file, or one that is compressed: unpack it"),
        ("a length that is right and large", "Record 0 of `{}` has 1,152,921,504,606,846,976 bytes; read are at most"),
        ("no Example", "Record 0 of `{}` is no tf.train.Example: "),
        ("a label", "Record 0 of `{}` has the label -1, and the first is 0"),
        ("a label without bound", "Record 0 of `{}` has the label 1,099,511,627,776, and 1,000,000 is the largest"),
    ],
)
def test_what_is_damaged_is_named_and_nothing_is_left(kind: str, said: str, tmp_path: Path) -> None:
    source = tf_records(tmp_path / "tf")
    file = source / "train-00001-of-00002"
    file.write_bytes(damaged(file.read_bytes(), kind))
    with pytest.raises(DataError) as caught:
        convert.convert(source, tmp_path / "to/pets")
    assert said.format(file) in str(caught.value)
    assert list((tmp_path / "to").iterdir()) == []


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=8))
def test_no_damage_goes_unseen(place: int, damage: bytes) -> None:
    """A record comes out as it went in, or not at all."""
    right = [records.record(number) for number in range(2)]
    content = b"".join(map(tf_record.framed, right))
    place %= len(content)
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, "one")).write_bytes(content[:place] + damage + content[place + len(damage) :])
        found = []
        try:
            found.extend(record for record, _ in tf_record.records(file))
        except DataError:
            assert found in ([], right[:1], right)
        else:
            assert found == right


def test_what_stands_in_the_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tf_records(tmp_path / "tf"), tmp_path / "to"
    target.mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        convert.convert(source, target)
    target.rmdir()
    (tmp_path / ".to.converting").mkdir()
    with pytest.raises(ConfigError, match=r"is running, or was killed\. Remove it"):
        convert.convert(source, target)
    (tmp_path / ".to.converting").rmdir()
    with pytest.raises(DataError, match="is no folder"):
        convert.convert(tmp_path / "nowhere", target)
    with pytest.raises(DataError, match="has no TFRecord file"):
        convert.convert(records.folder(tmp_path / "pets"), target)
    (source / "other.tfrecord").touch()
    with pytest.raises(DataError, match="has to say in its name what it is for"):
        convert.convert(source, target)
    (source / "other.tfrecord").unlink()
    monkeypatch.setattr(convert, "count", lambda path: 3)
    with pytest.raises(DiskError, match="holds 3 records, and 8 were written"):
        convert.convert(source, target)
    assert not target.exists()


def test_a_disk_that_is_full_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskError, match=r"cannot be written: .*Check the disk"),
        convert._writing(Path("/dev/full")) as write,
    ):
        write(b"x" * 2**20)
