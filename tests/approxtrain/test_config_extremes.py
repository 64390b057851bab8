"""Configurations that nobody writes on purpose: too large, too deep, without end, not text. Each is told in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from approxtrain import config, models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule
from approxtrain.schedule.config import ScheduleConfig

LARGEST = 2**31 - 1
DIGITS = "1" * 5_000
NESTED = "[" * 3_000


def problem(*overrides: str, source: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(source, overrides)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize("key", ["train.epochs", "schedule.until_epoch", "train.checkpoint_every"])
@pytest.mark.parametrize("value", [LARGEST + 1, 10**20])
def test_a_number_that_no_program_can_count_to_is_refused(key: str, value: int) -> None:
    name = "schedule1" if key.startswith("schedule") else "full"
    expected = f"`{key}` (={value}) must be less than or equal to {LARGEST}."
    assert problem(f'schedule={{name="{name}"}}', f"{key}={value}") == expected


def test_so_many_epochs_that_their_steps_cannot_be_counted_are_refused_and_the_most_is_named() -> None:
    loaded = config.load("quickstart", [f"train.epochs={LARGEST}"])
    most = LARGEST // 78
    with pytest.raises(ConfigError, match=rf"of 78 steps each .* a run has at most 2,147,483,647: .*={most} or less"):
        config.steps_per_epoch(loaded)
    assert config.steps_per_epoch(config.with_train(loaded, epochs=most)) == 78


@pytest.mark.parametrize("epoch", [LARGEST, 30_000_000])
def test_what_begins_after_all_steps_that_can_be_counted_is_in_no_table(epoch: int) -> None:
    layers = models.get("cnn2").layers
    bounded, endless = (
        Schedule.from_config(ScheduleConfig(name="schedule1", method="zero", until_epoch=until), layers, 78)
        for until in (epoch, None)
    )
    assert bounded == endless
    assert len(bounded.index_table.starts) == 1


@pytest.mark.parametrize("value", [DIGITS, NESTED])
def test_a_value_that_toml_cannot_read_is_taken_for_text_and_shown_in_part(value: str) -> None:
    expected = f"`train.epochs` (='{value[:99]}…) must be a whole number."
    assert problem(f"train.epochs={value}") == expected


@pytest.mark.parametrize(
    ("value", "reason"), [(DIGITS, "a number in it has too many digits"), (NESTED, "lie too deep in each other")]
)
def test_a_file_that_toml_cannot_read_is_told_why(tmp_path: Path, value: str, reason: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"[train]\nepochs = {value}\n")
    assert reason in problem(source=str(file))


def test_a_number_that_python_cannot_write_is_told_without_it(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'model.name = "cnn2"\ndata.name = "shapes"\ntrain.epochs = 0x{"f" * 5_000}\n')
    assert problem(source=str(file)).startswith("`train.epochs` (=a number of too many digits) must be less")


def test_a_file_without_end_is_no_configuration() -> None:
    assert problem(source="/dev/zero") == "'/dev/zero' is longer than 16,777,216 characters, so it is no configuration."


def test_a_folder_of_nobodys_is_a_folder_that_is_not_there() -> None:
    loaded = config.load("quickstart", ["data={dir='~nobody-of-that-name/x'}"])
    assert loaded.data.dir == f"{Path.cwd()}/~nobody-of-that-name/x"
    assert loaded.data.name == "x"


def test_bytes_that_are_no_text_are_refused() -> None:
    name = os.fsdecode(b"data.dir=\xff")
    assert problem(name) == f"{name!r} is no text in UTF-8, as a configuration has to be."


def test_a_folder_in_one_whose_name_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert f"{str(folder / 'x')!r} is no text in UTF-8" in problem("data.dir=x", "data.name=mine")


def test_too_many_seeds_beside_a_seed_that_is_none_are_told_each() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["train.seed=-1", "train.seeds=4294967297"])
    assert [text.partition(" ")[0] for text in caught.value.problems] == ["`train.seed`", "`train.seeds`"]
