"""`approxtrain schedule-show`: the grid on a terminal, the JSON, the image, and what it does not import."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from approxtrain import models
from approxtrain.errors import ConfigError, DiskError
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.picture import draw
from approxtrain.schedule.summary import Summary
from approxtrain_cli.schedule_show import show

CASES = {
    "schedule1 on resnet20": ("resnet20", {"name": "schedule1", "method": "zero"}),
    "schedule2 on resnet20": ("resnet20", {"name": "schedule2"}),
    "schedule3 on resnet20": ("resnet20", {"name": "schedule3", "method": "random"}),
    "schedule1 on vgg19": ("vgg19", {"name": "schedule1"}),
    "alternation on cnn2": ("cnn2", {"name": "alternate"}),
    "figure3 on cnn5": ("cnn5", {"name": "figure3"}),
    "until epoch 2": ("cnn5", {"name": "schedule3", "until_epoch": 2}),
    "one method twice": (
        "cnn5",
        {
            "rules": [
                {"layers": [2], "method": "approx"},
                {"layers": [3], "method": "approx", "params": {"k": 4}},
            ]
        },
    ),
    "frozen prefix": ("resnet14", {"name": "schedule3", "method": "skip", "until_epoch": 2, "frozen_prefix": True}),
    "prefix not asked for": ("cnn5", {"rules": [{"layers": [1, 2], "method": "zero"}]}),
    "long period": (
        "cnn5",
        {"rules": [{"layers": [2], "method": "skip", "steps": {"start": 7, "every": 40}}]},
    ),
    "many runs": (
        "cnn5",
        {
            "rules": [
                {"method": "zero", "steps": {"stop": 95, "every": 13}},
                {"method": "zero", "steps": {"every": 7}},
            ]
        },
    ),
}


def summary(model: str, section: dict) -> Summary:
    config = ScheduleConfig.model_validate(section)
    description = models.get(model)
    return Summary(description, config, Schedule.from_config(config, description.layers, 100), 128, 100, 10)


def shown(case: str, width: int = 80, **console) -> str:
    out = io.StringIO()
    show(summary(*CASES[case]), Console(file=out, width=width, highlight=False, **console))
    return out.getvalue()


def grid_rows(text: str) -> list[str]:
    """The letters of each layer's row: what follows the share of FLOPs."""
    rows = [line for line in text.splitlines() if "→" in line]
    return ["".join(row.split("%")[1].split()) for row in rows]


def test_it_says_where_a_method_saves_no_time():
    text = shown("schedule1 on vgg19", width=200)
    (line,) = [line for line in text.splitlines() if line.startswith("approx saves no time on a CPU")]
    assert "in layer 14," in line
    assert line.endswith("take full or pooled there")
    assert "saves no time on a CPU" not in shown("schedule1 on resnet20", width=200)
    assert "saves no time" not in shown("schedule3 on resnet20", width=200)  # random


def test_a_frozen_prefix_is_shown_with_what_it_saves():
    text, run = shown("frozen prefix"), summary(*CASES["frozen prefix"]).run
    assert f"dgrad FLOPs saved             {run.dgrad_share_saved:.1%} of the step's, by the frozen prefix" in text
    assert f"largest possible speed-up     {run.largest_speed_up:.1%}" in text
    assert run.largest_speed_up > run.replaced / run.dense
    assert "schedule.frozen_prefix=true" not in text


def test_a_prefix_that_is_not_asked_for_is_one_line_of_advice():
    text = shown("prefix not asked for", width=200)
    (line,) = [line for line in text.splitlines() if "frozen_prefix" in line]
    # dgrads of layers 2 and 3, 16 % and 32 % of the step in three parts; wgrads of 1 and 2: half of 4 % and a third
    assert line.startswith("schedule.frozen_prefix=true would save 16.0% of the step's FLOPs in dgrads; ")
    assert line.endswith("largest possible speed-up then 23.3%")
    assert "dgrad FLOPs saved" not in text


@pytest.mark.parametrize("case", ["schedule1 on resnet20", "schedule3 on resnet20", "one method twice"])
def test_without_a_prefix_there_is_nothing_to_advise(case):
    assert "frozen" not in shown(case)


def test_json_says_what_a_prefix_saves_whether_it_is_on_or_not():
    on, off = (summary(*CASES[case]).as_dict() for case in ("frozen prefix", "prefix not asked for"))
    assert (on["frozen_prefix"]["on"], off["frozen_prefix"]["on"]) == (True, False)
    assert (on["frozen_prefix"]["layers"], off["frozen_prefix"]["layers"]) == ([13, 0], [2])
    assert on["frozen_prefix"]["run_cost"] == on["run_cost"]
    assert off["run_cost"]["dgrad_share_saved"] == 0 < off["frozen_prefix"]["run_cost"]["dgrad_share_saved"]


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from approxtrain_cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_the_terminal_shows_figure_3_of_the_paper():
    text = shown("figure3 on cnn5")
    assert grid_rows(text) == ["·ZRZ", "··R·", "A·R·", "A···", "AZ·Z"]
    assert "repeated every 4" in text


@pytest.mark.parametrize(
    ("case", "bound"),
    [
        ("schedule1 on resnet20", "8.8%"),
        ("schedule2 on resnet20", "7.8%"),
        ("schedule3 on resnet20", "8.4%"),
        ("schedule1 on vgg19", "10.3%"),
        ("alternation on cnn2", "14.8%"),
    ],
)
def test_the_terminal_shows_the_largest_possible_speed_up(case, bound):
    assert f"largest possible speed-up     {bound} (1 − T_method / T_full" in shown(case)


@pytest.mark.parametrize("case", CASES)
def test_no_line_of_a_grid_is_wider_than_80_columns(case):
    lines = shown(case).splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("case", CASES)
def test_without_colour_every_kind_of_cell_has_its_own_letter(case):
    text = shown(case, no_color=True)
    keys = summary(*CASES[case]).keys
    assert "\x1b" not in text
    assert len({key.letter for key in keys}) == len({key.colour for key in keys}) == len(keys)
    assert all(f" {key.letter}  {key.label}" in text for key in keys)


def test_a_colour_terminal_gets_colours():
    assert "\x1b[" in shown("figure3 on cnn5", force_terminal=True, color_system="truecolor")


def test_two_cells_of_one_method_differ_in_letter():
    assert grid_rows(shown("one method twice")) == ["·", "A", "4", "·", "·"]


def test_a_phase_is_shown_with_its_steps_and_epochs():
    text = shown("until epoch 2")
    assert "steps 0-199 (epochs 1-2), repeated every 4" in text
    assert "from step 200 (epoch 3): every layer full" in text
    assert "over the run of 1000 steps:" in text


def test_a_long_period_is_drawn_as_runs_of_equal_steps():
    text = shown("long period")
    assert " 0-6 7  8-39" in text
    assert grid_rows(text)[1] == "·S·"


def test_a_grid_that_does_not_fit_says_how_much_of_it_is_drawn():
    text = shown("many runs")
    assert "…" in text
    assert "drawn: the first " in text


def test_a_terminal_that_knows_only_ascii_gets_ascii():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    show(summary(*CASES["many runs"]), Console(file=out, width=80, highlight=False))
    out.flush()
    assert b"32x32x3>16 k3 s1" in raw.getvalue()


DRAWN = ("figure3 on cnn5", "schedule1 on resnet20", "frozen prefix")


@pytest.mark.parametrize(
    "case", [case if case in DRAWN else pytest.param(case, marks=pytest.mark.gate) for case in CASES]
)
def test_the_image_is_drawn(case, tmp_path):
    draw(summary(*CASES[case]), tmp_path / "schedule.png")
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")


def test_the_ending_of_the_file_says_the_format(tmp_path):
    draw(summary(*CASES["figure3 on cnn5"]), tmp_path / "schedule.SVG")
    assert "<svg" in (tmp_path / "schedule.SVG").read_text("utf-8")


def test_an_image_of_another_format_or_place_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.png, \.svg, \.pdf"):
        draw(summary(*CASES["figure3 on cnn5"]), tmp_path / "schedule.bmp")
    with pytest.raises(DiskError, match="cannot be written"):
        draw(summary(*CASES["figure3 on cnn5"]), tmp_path / "no" / "schedule.png")


@pytest.mark.gate
def test_json_is_one_object_and_nothing_else():
    done = program("schedule-show", "figure3", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    facts = json.loads(done.stdout)
    assert facts["compiled_steps"] == len(facts["columns"]) == 3
    (phase,) = facts["phases"]
    assert (phase["first_step"], phase["last_step"], phase["period"]) == (0, None, 4)
    first_column = [facts["cells"][row[0]]["method"] for row in phase["grid"]]
    assert first_column == ["full", "full", "approx", "approx", "approx"]
    assert sum(facts["cell_shares"].values()) == pytest.approx(1)
    assert sum(layer["flops_share"] for layer in facts["layers"]) == pytest.approx(1)
    assert facts["run_cost"]["largest_speed_up"] == pytest.approx(0.175, abs=5e-4)


def test_overrides_change_the_schedule_that_is_shown(call):
    done = call("schedule-show", "figure3", "schedule={ name = 'schedule3', method = 'zero' }", "model.name=cnn2")
    assert done.code == 0, done.err
    assert done.out.startswith("cnn2: schedule3 with zero")


def test_a_mistake_in_the_rules_is_exit_code_2_and_names_the_layers(call):
    rule = "schedule={ rules = [{ method = 'zero', path = 'stage*' }, { method = 'zero', layers = [7] }] }"
    done = call("schedule-show", "figure3", rule)
    assert done.code == 2
    assert "`schedule.rules.0.path`: 'stage*' matches no layer. The model has 5 layers: 1-5 " in done.err
    assert "`schedule.rules.1.layers`: there is no layer 7" in done.err
