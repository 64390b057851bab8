"""Images in ArrayRecord files: read as those of a folder are, and told about in words where they cannot be."""

from __future__ import annotations

import contextlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from approxtrain import data
from approxtrain.config import Config, DataConfig
from approxtrain.data import array_record, example
from approxtrain.errors import ApproxtrainError, ConfigError, DataError
from approxtrain.training.feed import Stream
from tests import records


def load(folder: Path, **more: object) -> data.ImageSet:
    return data.load(DataConfig.model_validate({"dir": str(folder), "image_size": 16, **more}))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return records.folder(tmp_path / "pets")


def numbers(split: data.Split) -> list[int]:
    return [int(split[index][0][0, 0, 0]) for index in range(len(split))]


def test_the_files_of_a_split_are_one_after_the_other(pets):
    found = array_record.open_records(pets)
    assert found.class_names == records.CLASSES
    assert numbers(found.train) == [*range(0, 21, 2), *range(1, 21, 2)]
    assert [found.train[i][1] for i in range(3)] == [0, 2, 1]
    assert numbers(found.validation) == list(range(100, 109))
    assert (found.validated_on, found.test) == ("validation", None)
    assert data.train_size(DataConfig.model_validate({"dir": str(pets)})) == 21


def test_they_are_images_as_any_other(pets):
    found = load(pets)
    assert (found.name, found.streamed, found.validated_on) == ("pets", False, "validation")
    assert found.train.images.shape == (21, 16, 16, 3)
    assert data.shape(DataConfig.model_validate({"dir": str(pets)})) == ((16, 16, 3), 3)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_stream_of_them_is_read_in_order_and_sent_to_processes(workers, pets):
    config = Config.model_validate(
        {
            "model": {"name": "cnn5"},
            "data": {"dir": str(pets), "image_size": 16, "stream": True, "workers": workers},
            "train": {"epochs": 2, "batch_size": 7, "augment": False},
        }
    )
    found = data.load(config.data)
    assert found.sha256 == array_record.open_records(pets).listing_sha256()
    feed = Stream(found, config)
    epoch = [feed.images(step) for step in range(3)]
    assert sorted(int(label) for images in epoch for label in images.labels) == [0] * 7 + [1] * 7 + [2] * 7
    feed.close()
    copy = pickle.loads(pickle.dumps(found.train))
    assert np.array_equal(copy[3][0], found.train[3][0])


def test_another_file_is_another_data_set(pets, tmp_path):
    before = array_record.open_records(pets).listing_sha256()
    assert array_record.open_records(records.folder(tmp_path / "again")).listing_sha256() == before
    records.array_record(pets / "train-00001-of-00002.array_record", map(records.record, range(1, 19, 2)))
    assert array_record.open_records(pets).listing_sha256() != before


def test_names_of_tfds_are_known_as_well(tmp_path):
    (tmp_path / "label.labels.txt").write_text("bird\ncat")
    (tmp_path / "dataset_info.json").write_text("{}")
    for split in ("train", "test"):
        path = tmp_path / f"pets-{split}.array_record-00000-of-00001"
        records.array_record(path, [example.written({"image": records.png(n), "label": n % 2}) for n in range(4)])
    found = array_record.open_records(tmp_path)
    assert (numbers(found.train), found.class_names, found.validated_on) == ([0, 1, 2, 3], ("bird", "cat"), "test")
    assert len(found.test) == 4
    assert load(tmp_path, name="pets").validated_on == "test"


def test_no_more_files_are_open_than_a_system_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(array_record, "_OPEN", 2)
    pets = records.folder(tmp_path / "pets")
    for number in range(5):
        records.array_record(pets / f"train-{number}.array_record", [records.record(number)])
    train = array_record.open_records(pets).train
    assert len(numbers(train)) == 26
    assert len(train._readers.opened) == 2


def test_a_broken_record_is_named_or_left_out_and_those_after_it_are_read(pets):
    file = pets / "train-00000-of-00002.array_record"
    content = bytearray(file.read_bytes())
    content[content.index(records.png(4)) + 50] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"record 2 of `{file}` cannot be read: Corrupted .*data\.broken=skip"):
        load(pets)
    found = load(pets, broken="skip")
    assert found.skipped == (f"record 2 of `{file}`",)
    assert found.train.labels.tolist() == [n % 3 for n in [*range(0, 21, 2), *range(1, 21, 2)] if n != 4]


def test_a_record_that_is_no_picture_is_named(pets):
    file = records.array_record(pets / "train-3.array_record", [example.written({"image": b"none", "label": 0})])
    with pytest.raises(DataError, match=rf"record 0 of `{file}` cannot be read: cannot identify image file"):
        load(pets)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"image/encoded": b"1"},
            "has no features image/encoded and image/class/label or image and label; it has image",
        ),
        ({"image": b"1", "label": b"cat"}, r"one value each in image \(bytes\) and label \(a whole number\)"),
        ({"image": 1, "label": 1}, "one value each in image"),
        ({"image": b"1", "label": 3}, "has the label 3; those of 3 classes are 0 to 2"),
    ],
)
def test_a_record_that_is_another_thing_is_an_error_even_where_broken_ones_are_skipped(content, said, pets):
    content = {name: records.png(0) if value == b"1" else value for name, value in content.items()}
    records.array_record(pets / "train-3.array_record", [example.written(content)])
    with pytest.raises(DataError, match=said):
        load(pets, broken="skip")


def test_what_a_folder_lacks_is_told(pets, monkeypatch):
    (pets / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match="a name on each line, and none twice"):
        load(pets)
    (pets / "classes.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="no text in UTF-8"):
        load(pets)
    (pets / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"needs the names of its classes, .* a line each: classes\.txt"):
        load(pets)
    (pets / "other.array_record").touch()
    with pytest.raises(DataError, match="has to say in its name what it is for"):
        load(pets)
    (pets / "other.array_record").unlink()
    for file in pets.glob("train*"):
        file.unlink()
    with pytest.raises(DataError, match=r"no file to train on: \*train\*\.array_record"):
        load(pets)


def test_without_images_to_validate_on_a_holdout_is_asked_for(pets):
    (pets / "validation-00000-of-00001.array_record").unlink()
    with pytest.raises(ConfigError, match=r"data\.holdout=N"):
        load(pets)
    assert len(load(pets, holdout=6).validation) == 6


def test_without_the_package_it_is_named(pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(DataError, match="pip install array-record"):
        load(pets)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 2**17])
def test_a_file_that_is_none_is_named(content, pets):
    (pets / "train-9.array_record").write_bytes(content)
    with pytest.raises(DataError, match=r"train-9\.array_record` cannot be read: .*Copy or convert it again"):
        load(pets)


def protobuf():
    """The message classes as the .proto file of TensorFlow has them."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            made.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)
        return made

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("BytesList", ("value", 1, kinds.TYPE_BYTES, many, ""))
    message("FloatList", ("value", 1, kinds.TYPE_FLOAT, many, ""))
    message("Int64List", ("value", 1, kinds.TYPE_INT64, many, ""))
    lists = (("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List"))
    message("Feature", *((name, number, kinds.TYPE_MESSAGE, one, f".t.{of}") for name, number, of in lists))
    features = message("Features", ("feature", 1, kinds.TYPE_MESSAGE, many, ".t.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, label=one, type_name=".t.Feature")
    message("Example", ("features", 1, kinds.TYPE_MESSAGE, one, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = protobuf()
INTS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)


@given(st.dictionaries(st.text(max_size=9), INTS | st.lists(st.binary(max_size=300), max_size=3), max_size=5))
def test_what_protobuf_writes_is_read(features):
    made = EXAMPLE()
    for name, values in features.items():
        feature = made.features.feature[name]
        kind = feature.bytes_list if values and isinstance(values[0], bytes) else feature.int64_list
        kind.value.extend(values)
    made.features.feature["a float"].float_list.value.append(0.5)
    read = {name: values[: example.MOST] for name, values in features.items()}
    assert example.parse(made.SerializeToString()) == {**read, "a float": []}


@given(st.dictionaries(st.text(max_size=9), st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=300), max_size=5))
def test_what_is_written_is_read_by_protobuf(features):
    made = EXAMPLE.FromString(example.written(features)).features.feature
    found = {name: (*feature.bytes_list.value, *feature.int64_list.value) for name, feature in made.items()}
    assert found == {name: (value,) for name, value in features.items()}


def test_a_record_that_is_cut_off_anywhere_is_a_value_error():
    whole = records.record(1)
    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match=r"where there are|without an end"):
            example.parse(whole[:end])


@given(st.binary(max_size=200), st.integers(0, 2000), st.binary(max_size=8))
def test_any_bytes_are_an_example_or_a_value_error(content, place, damage):
    good = records.record(1)
    for record in (content, good[: place % len(good)], good[:place] + damage + good[place + len(damage) :]):
        try:
            found = example.parse(record)
        except ValueError:
            continue
        kept = [value for of_one in found.values() for value in of_one if isinstance(value, bytes)]
        assert sum(map(len, kept)) <= len(record)
        with contextlib.suppress(ApproxtrainError):
            array_record.image_and_label(found, "it")
