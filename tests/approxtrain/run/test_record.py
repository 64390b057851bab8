"""The rows of a run, its summary, its environment and its curves."""

from __future__ import annotations

import json
import math
import os
import resource
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain import disk
from approxtrain.errors import CheckpointError, ConfigError, DiskError
from approxtrain.run import curves, record
from approxtrain.run.record import Record

CONFIG = """
[model]
name = "cnn2"
[data]
name = "shapes"
[train]
seed = 3
[schedule]
name = "schedule1"
method = "approx"
"""


def write_epochs(book: Record, epochs: range) -> None:
    """Three steps an epoch; the numbers are a pure function of the epoch."""
    for epoch in epochs:
        loss = 2 / (epoch + 1 / 3)
        book.row(kind="train", step=3 * epoch, epoch=epoch, loss=loss, accuracy=1 - loss / 3, learning_rate=1e-3)
        if epoch % 2 == 0:
            book.row(kind="validation", step=3 * epoch, epoch=epoch, loss=loss + 0.1, accuracy=0.9 - loss / 3)
        book.timing(step=3 * epoch, ms_per_step=1.5)


def test_a_resumed_file_equals_an_uninterrupted_one_byte_for_byte(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    with Record(tmp_path / "whole") as book:
        write_epochs(book, range(1, 7))
    with Record(tmp_path / "killed") as book:
        write_epochs(book, range(1, 5))
        written = book.sync(12)  # the checkpoint lies before epoch 5
        write_epochs(book, range(5, 6))
    metrics = tmp_path / "killed" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"kind": "train", "step": 18, "lo')  # killed in the middle of a line
    with Record(tmp_path / "killed", written) as book:
        write_epochs(book, range(5, 7))
    assert metrics.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert [row["step"] for row in record.rows(tmp_path / "killed" / "timing.jsonl")] == [3, 6, 9, 12, 15, 18]


def test_rows_of_the_checkpoint_step_itself_are_kept(tmp_path: Path) -> None:
    with Record(tmp_path) as book:
        before = book.sync(0)
        write_epochs(book, range(1, 3))
        written = book.sync(6)
        write_epochs(book, range(3, 4))
    with Record(tmp_path, written):
        assert [row["step"] for row in record.rows(tmp_path / "metrics.jsonl")] == [3, 6, 6]
    with Record(tmp_path, before):
        assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_only_a_half_written_line_is_cut_when_nothing_is_later(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    with Record(tmp_path) as book:
        book.row(kind="train", step=3)
        written = book.sync(3)
    with metrics.open("a") as file:
        file.write('{"kind": "train", "step": 6}')
    with Record(tmp_path, written):
        assert metrics.read_text() == '{"kind": "train", "step": 3}\n'


@pytest.mark.parametrize("damaged", ['{"step": 6, "lo', "[6]", '{"kind": "train"}', ""])
def test_a_damaged_line_is_an_error_unless_it_is_the_last_one_and_cut_short(tmp_path: Path, damaged: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"step": 3}}\n{damaged}')
    assert record.rows(file) == [{"step": 3}]
    file.write_text(f'{{"step": 3}}\n{damaged}\n{{"step": 9}}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl` is damaged: line 2 is no row of a run"):
        record.rows(file)


def test_a_row_is_on_file_at_once_and_its_numbers_are_exact(tmp_path: Path) -> None:
    loss = jnp.float32(0.1)
    with Record(tmp_path) as book:
        book.row(kind="train", step=jnp.int32(3), epoch=1, loss=loss, accuracy=np.float64(1 / 3))
        (row,) = record.rows(tmp_path / "metrics.jsonl")
    assert list(row) == ["kind", "step", "epoch", "loss", "accuracy"]
    assert (row["step"], row["loss"], row["accuracy"]) == (3, float(loss), 1 / 3)


def test_rows_are_on_the_disk_itself_before_a_checkpoint_vouches_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, int]] = []

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        flushed.append((found.st_ino, found.st_size))

    monkeypatch.setattr(os, "fsync", note)
    with Record(tmp_path) as book:
        write_epochs(book, range(1, 3))
        book.sync(6)
    files = [(tmp_path / name).stat() for name in ("metrics.jsonl", "timing.jsonl")]
    assert {(file.st_ino, file.st_size) for file in files} <= set(flushed)


def test_numbers_that_are_not_finite_are_strings_that_float_reads(tmp_path: Path) -> None:
    with Record(tmp_path) as book:
        book.row(kind="train", step=1, loss=math.nan, low=-math.inf, high=jnp.inf)
    text = (tmp_path / "metrics.jsonl").read_text()
    row = json.loads(text, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert (row["loss"], row["low"], row["high"]) == ("NaN", "-Infinity", "Infinity")
    assert math.isnan(float(row["loss"]))


def test_a_write_that_the_kernel_refuses_is_a_disk_error_that_names_the_file(tmp_path: Path) -> None:
    """The limit on the size of a file stands in for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    book = Record(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"metrics\.jsonl` cannot be written: File too large"):
            book.row(kind="train", step=1)
        book.close()  # does not fail a second time
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_values_become_what_json_holds(tmp_path: Path) -> None:
    values = {"accuracy": jnp.float32(0.5), "best": math.nan, "out": tmp_path, "pair": (1, 2)}
    assert json.loads(json.dumps(record.plain(values), allow_nan=False)) == {
        "accuracy": 0.5,
        "best": "NaN",
        "out": str(tmp_path),
        "pair": [1, 2],
    }


def test_the_curves_are_a_picture(drawn_curves: None, tmp_path: Path) -> None:
    disk.write(tmp_path / "config.toml", CONFIG)
    with Record(tmp_path) as book:
        write_epochs(book, range(1, 4))
        book.row(kind="train", step=12, epoch=4, loss=math.nan, accuracy=0.1, learning_rate=1e-3)
    path = curves.plot(tmp_path)
    assert path == tmp_path / "curves.png"
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20]) >= 1200


def test_the_title_always_names_the_data_set() -> None:
    rest = {"model": {"name": "resnet20"}, "data": {"name": "cifar10-jpeg75"}, "train": {"seed": 0}}
    rules = {"rules": [{"method": "zero"}, {"method": "approx"}, {"method": "zero"}]}
    assert curves.title(rest | {"schedule": rules}) == "resnet20 · rules zero approx · data: cifar10-jpeg75 · seed 0"
    assert curves.title(rest | {"schedule": {"name": "full"}}) == "resnet20 · full · data: cifar10-jpeg75 · seed 0"


def test_curves_of_nothing_are_refused(drawn_curves: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to draw"):
        curves.plot(tmp_path)


def test_a_row_without_a_value_says_nan(tmp_path: Path) -> None:
    with Record(tmp_path) as book:
        row = book.row(kind="probe", step=7, layer=2, method="approx", cosine=0.5, norm_ratio=math.nan, seed=3)
    assert row["norm_ratio"] == "NaN"
    assert record.rows(tmp_path / record.METRICS) == [row]


def test_a_single_epoch_of_several_seeds_is_drawn_as_dots() -> None:
    from matplotlib.figure import Figure

    def markers(epochs: int, seeds: int) -> set[str]:
        axes = Figure().subplots()
        series = {"epoch": list(range(epochs)), "loss": [1.0] * epochs}
        curves._draw(axes, [series] * seeds, "loss", "training", "#000000")
        return {str(line.get_marker()) for line in axes.lines}

    assert markers(1, 2) == markers(1, 1) == markers(3, 1) == {"o"}
    assert markers(3, 2) == {""}


def test_rows_that_cannot_be_read_are_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl` cannot be read: Is a directory"):
        Record(tmp_path)


def test_rows_of_the_same_length_that_are_others_are_refused(tmp_path: Path) -> None:
    with Record(tmp_path) as book:
        write_epochs(book, range(1, 3))
        written = book.sync(6)
    metrics = tmp_path / "metrics.jsonl"
    content = metrics.read_bytes()
    metrics.write_bytes(content.replace(b'"epoch": 1', b'"epoch": 7'))
    with pytest.raises(CheckpointError, match=r"are others \(their SHA-256 differs\)"):
        Record(tmp_path, written)
    metrics.write_bytes(content)
    Record(tmp_path, written).close()
