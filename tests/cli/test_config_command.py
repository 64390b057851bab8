"""`approxtrain config` and `approxtrain cp`."""

from __future__ import annotations

from pathlib import Path

import pytest

from approxtrain.config import load, presets
from approxtrain.config.reference import keys

ROOT = Path(__file__).parents[2]


def test_every_key_has_a_type_and_a_meaning():
    found = list(keys())
    assert {key.name.partition(".")[0] for key in found} == {
        "model",
        "data",
        "train",
        "optimizer",
        "schedule",
        "parallel",
    }
    assert [key.name for key in found if not (key.type and key.meaning)] == []
    by_name = {key.name: key for key in found}
    assert by_name["train.epochs"].default == ""
    assert by_name["optimizer.milestones"][1:3] == ("list of number", "[0.5, 0.75]")
    assert by_name["schedule.rules[].epochs"].default == "unset"


def test_it_lists_every_key_and_starts_no_jax(program):
    code = "import atexit; atexit.register(lambda: print('jax' in sys.modules, file=sys.stderr)); main()"
    done = program("config", code=code, COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert all(key.name.partition(".")[2] in done.stdout for key in keys())


def test_the_page_of_the_keys_is_what_the_command_prints(call):
    assert call("config", "--markdown").out == (ROOT / "docs/configuration.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["quickstart", "resnet20-schedule1-approx"])
def test_a_preset_is_copied_with_its_comments_and_reads_as_the_same(name, call, tmp_path):
    file = tmp_path / "mine.toml"
    ended = call("cp", name, file)
    assert (ended.code, f"approxtrain train {file}" in ended.out) == (0, True)
    assert file.read_text("utf-8").startswith(f"# {dict(presets())[name]}")
    assert load(str(file)) == load(name)


def test_nothing_is_copied_over_and_an_unknown_preset_is_named(call, tmp_path):
    (tmp_path / "mine.toml").write_text("mine")
    ended = call("cp", "quickstart", tmp_path / "mine.toml")
    assert (ended.code, (tmp_path / "mine.toml").read_text()) == (2, "mine")
    assert "is there already" in ended.err
    unknown = call("cp", "quickstrt", tmp_path / "other.toml")
    assert (unknown.code, "Did you mean 'quickstart'?" in unknown.err) == (2, True)
