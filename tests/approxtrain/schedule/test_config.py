"""The `[schedule]` section by itself: what it accepts, what it fills in, and where its errors point."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w
from pydantic import ValidationError

from approxtrain.schedule import ScheduleConfig


def read(text: str) -> ScheduleConfig:
    return ScheduleConfig.model_validate(tomllib.loads(text))


def errors(text: str) -> dict[str, str]:
    """Dotted place → message."""
    with pytest.raises(ValidationError) as raised:
        read(text)
    found = raised.value.errors()
    places = [".".join(map(str, error["loc"])) for error in found]
    assert len(set(places)) == len(places)
    return {place: error["msg"] for place, error in zip(places, found, strict=True)}


def test_without_a_form_everything_is_full():
    assert read("").name == "full"
    assert read("max_columns = 3").name == "full"
    assert ScheduleConfig() == read('name = "full"')


def test_a_named_schedule_takes_approx_by_default():
    assert read('name = "schedule1"').method == "approx"
    assert read('name = "schedule1"\nmethod = "zero"').method == "zero"
    assert read('name = "figure3"').method is None


def test_the_frozen_prefix_is_asked_for_and_then_in_the_title():
    assert read("").frozen_prefix is False
    asked = read('name = "schedule3"\nmethod = "zero"\nuntil_epoch = 2\nfrozen_prefix = true')
    assert asked.title == "schedule3 with zero until epoch 2, frozen prefix"


def test_how_a_method_is_computed_is_no_part_of_a_schedule():
    with pytest.raises(ValidationError, match="`implementation` says how 'approx' is computed, and not what"):
        read('name = "schedule1"\nparams = { k = 2, implementation = "xla" }')


@pytest.mark.parametrize(
    "text",
    [
        "",
        'name = "schedule2"\nparams = { k = 4, scale = "paper" }\nuntil_epoch = 3',
        'name = "schedule3"\nmethod = "skip"\nfrozen_prefix = true',
        '[[rules]]\nmethod = "zero"\nlayers = [2, 4]\nepochs = { from = 2, to = 3 }\nsteps = { every = 2 }',
        '[[rules]]\nmethod = "zero"\nlayers = { start = 2 }\npath = "a*"\nstride = 1\norder = -1',
        'grid = [["a", "full"]]\ndispatch = "host"\ncells = { a = { method = "approx", params = {k=2} } }',
    ],
)
def test_a_section_written_out_and_read_again_is_the_same(text):
    config = read(text)
    written = tomli_w.dumps(config.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert read(written) == config


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('name = "schedul1"', "name", "Did you mean 'schedule1'?"),
        ('name = "schedule1"\nmethod = "aprox"', "method", "Did you mean 'approx'?"),
        ('name = "schedule1"\nparams = { kk = 1 }', "params", "it takes k, scale"),
        ('name = "schedule1"\nparams = { k = 0 }', "params", "at least 1"),
        ('name = "schedule1"\nparams = { k = "four" }', "params", "whole number"),
        ('name = "schedule1"\nuntil_epoch = 0', "until_epoch", "greater than or equal to 1"),
        ('[[rules]]\nmethod = "zreo"', "rules.0.method", "Did you mean 'zero'?"),
        ("[[rules]]\nlayers = [2]", "rules.0.method", "Field required"),
        ('[[rules]]\nmethod = "zero"\nlayers = { strt = 2 }', "rules.0.layers.strt", "Extra inputs"),
        ('[[rules]]\nmethod = "zero"\nlayers = [0]', "rules.0.layers.0", "greater than or equal to 1"),
        ('[[rules]]\nmethod = "zero"\nlayers = [2.0]', "rules.0.layers.0", "valid integer"),
        ('[[rules]]\nmethod = "zero"\nlayers = 2', "rules.0.layers", "a list of numbers"),
        ('[[rules]]\nmethod = "zero"\nlayers = []', "rules.0.layers", "a list of numbers"),
        (
            '[[rules]]\nmethod = "zero"\nsteps = { every = 0 }',
            "rules.0.steps.every",
            "greater than or equal to 1",
        ),
        ('[[rules]]\nmethod = "zero"\norder = true', "rules.0.order", "valid integer"),
        ("rules = []", "", "`rules` is empty"),
        ("grid = []", "grid", "a row for each layer"),
        ("grid = [[]]", "grid", "a row for each layer"),
        ('grid = [["zero", "full"], ["zero"]]', "grid", "row 2 has 1 columns and row 1 has 2"),
        (
            'grid = [["aprox4"]]\ncells = { approx4 = { method = "approx" } }',
            "grid",
            "Did you mean 'approx4'?",
        ),
        (
            'grid = [["a"]]\ncells = { a = { method = "approx", params = { r = 1 } } }',
            "cells.a.params",
            "no parameter",
        ),
        ('cells = { a = { method = "approx" } }', "", "there is no `grid`"),
        ('name = "full"\ngrid = [["zero"]]', "", "`name` and `grid` exclude each other"),
        ('name = "full"\nmethod = "zero"', "", "schedule.method=full"),
        ('method = "zero"\ngrid = [["zero"]]', "", "state their own"),
        ('dispatch = "gpu"', "dispatch", "'auto', 'switch' or 'host'"),
        ("max_columns = 0", "max_columns", "greater than or equal to 1"),
        ("frozen_prefix = 1", "frozen_prefix", "valid boolean"),
        ('frozen_prefix = "yes"', "frozen_prefix", "valid boolean"),
    ],
)
def test_a_mistake_is_one_error_at_its_own_place(text, place, message):
    found = errors(text)
    assert list(found) == [place]
    assert message in found[place]


def test_all_mistakes_are_found_together():
    text = 'dispatch = "x"\n[[rules]]\nmethod = "zreo"\nstride = 0\n[[rules]]\nmethod = "zero"\nlayers = [0, -1]'
    places = ["rules.0.method", "rules.0.stride", "rules.1.layers.0", "rules.1.layers.1", "dispatch"]
    assert list(errors(text)) == places


def test_a_section_cannot_be_changed_once_read():
    with pytest.raises(ValidationError, match="frozen"):
        read("").max_columns = 1  # pyright: ignore[reportAttributeAccessIssue]
