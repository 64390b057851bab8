"""docs/schedules.md is executable: its TOML is built, its errors are raised, its Python runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.schedule import Schedule, ScheduleConfig, named

TEXT = (Path(__file__).parents[3] / "docs" / "schedules.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
FOLLOWED = list(zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True))
TOML = [(text, after) for (kind, text), (next_kind, after) in FOLLOWED if kind == "toml" and next_kind != "text"]
ERRORS = [(text, after) for (kind, text), (next_kind, after) in FOLLOWED if kind == "toml" and next_kind == "text"]


def build(text: str) -> Schedule:
    table = tomllib.loads(text)
    model = models.get(table.get("model", {"name": "resnet20"})["name"])
    config, devices = ScheduleConfig.model_validate(table["schedule"]), table.get("parallel", {}).get("devices", 1)
    return Schedule.from_config(config, model.layers, 390, epochs=10, replicas=devices)


@pytest.mark.parametrize("text", [text for text, _ in TOML])
def test_every_example_approximates_something_or_resizes_it_or_is_local(text):
    schedule = build(text)
    assert (
        any(mask.any() for _, mask in schedule.phases)
        or any(seen.text for seen in schedule.seen)
        or schedule.local.windows
    )


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_every_example_of_an_error_raises_that_error(text, message):
    with pytest.raises(ConfigError) as raised:
        build(text)
    assert raised.value.problems == [message.strip()]


def test_there_are_examples_of_all_forms_and_of_four_errors():
    forms = [tomllib.loads(text)["schedule"].keys() for text, _ in TOML]
    assert all(any(form in keys for keys in forms) for form in ("name", "rules", "grid", "until_epoch"))
    assert len(ERRORS) == 4


def test_the_python_example_runs():
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(compile(code, "docs/schedules.md", "exec"), {})


def test_the_table_names_every_named_schedule():
    section = TEXT.split("## 1.")[1].split("## 2.")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == list(named())
