"""`approxtrain ls`: complete, and readable at 80 columns and through a pipe."""

from __future__ import annotations

import pytest

from approxtrain import config, models
from approxtrain.schedule import named
from approxtrain_kernels import methods

CONTENT = {
    "presets": [name for name, _ in config.presets()],
    "models": list(models.names()),
    "methods": list(methods.all_methods()),
    "schedules": list(named()),
}


@pytest.mark.parametrize("kind", CONTENT)
def test_it_lists_each_name_at_the_start_of_a_line(kind, call):
    header, *lines = call("ls", kind).out.splitlines()
    assert header.startswith(kind.removesuffix("s"))
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == CONTENT[kind]


def test_without_an_argument_it_lists_everything(call):
    listed = [line.split()[0] for line in call("ls").out.splitlines() if line.strip()]
    assert set(listed) >= {name for names in CONTENT.values() for name in names}


def test_no_line_is_wider_than_80_columns_and_nothing_is_cut(call):
    shown = call("ls", COLUMNS="80").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    for text in [purpose for _, purpose in config.presets()] + [entry.summary for entry in named().values()]:
        assert text in shown


def test_without_a_terminal_there_are_no_escape_codes(call):
    assert "\x1b" not in call("ls").out


def test_a_preset_comes_with_its_purpose(call):
    assert "2-layer CNN, approx in layer 2 every other step" in call("ls", "presets").out


def test_a_method_comes_with_its_parameters(call):
    (line,) = [line for line in call("ls", "methods").out.splitlines() if line.startswith("approx")]
    assert "k=1, scale=1.0" in line


def test_an_unknown_kind_names_the_kinds_there_are(call):
    done = call("ls", "layers")
    assert done.code == 2
    assert all(kind in done.err for kind in CONTENT)
