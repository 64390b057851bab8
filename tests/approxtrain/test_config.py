"""Configurations: what wins, what is refused and in which words, and that a dump reads back."""

from __future__ import annotations

import re
import tomllib

import pytest
from pydantic import ValidationError

from approxtrain import config
from approxtrain.config import Config, toml
from approxtrain.errors import ConfigError

MINIMAL = """
[model]
name = "resnet20"
[data]
name = "shapes"
[train]
epochs = 3
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        file = tmp_path / "run.toml"
        file.write_text(text, "utf-8")
        return str(file)

    return write


def problems(source: str | None, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(source, overrides)
    return caught.value.problems


def test_defaults_hold_where_the_file_is_silent(write):
    loaded = config.load(write(MINIMAL))
    assert (loaded.train.batch_size, loaded.optimizer.learning_rate, loaded.schedule.name) == (
        128,
        0.001,
        "full",
    )


def test_the_file_wins_over_defaults_and_overrides_win_over_the_file(write):
    loaded = config.load(write(MINIMAL + "batch_size = 64\nseed = 5\n"), ["train.batch_size=32"])
    assert (loaded.train.batch_size, loaded.train.seed) == (32, 5)


def test_the_last_of_two_overrides_wins(write):
    assert config.load(write(MINIMAL), ["train.seed=1", "train.seed=2"]).train.seed == 2


def test_no_source_means_the_quickstart():
    assert config.load() == config.load("quickstart")


def test_a_first_argument_that_reads_key_value_changes_the_quickstart():
    assert config.split(["train.epochs=1", "train.seed=4"]) == (None, ["train.epochs=1", "train.seed=4"])
    assert config.split(["cnn2-full", "train.seed=4"]) == ("cnn2-full", ["train.seed=4"])
    assert config.split([]) == (None, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("3", 3),
        ("1e-3", 1e-3),
        ('"3"', "3"),
        ("zero", "zero"),
        ("/a b/c", "/a b/c"),
        ("1\nx=2", "1\nx=2"),
    ],
)
def test_an_override_is_read_as_toml_and_else_as_a_string(text, value):
    assert toml._value(text) == value


def test_an_override_reaches_into_a_list_of_rules(write):
    rule = '[[schedule.rules]]\nlayers = [2]\nmethod = "approx"\n'
    loaded = config.load(write(MINIMAL + rule), ["schedule.rules.0.params.k=4", "schedule.rules.0.layers=[2, 3]"])
    assert loaded.schedule.rules is not None
    assert loaded.schedule.rules[0].params == {"k": 4}
    assert loaded.schedule.rules[0].layers == (2, 3)


def test_an_override_can_replace_a_whole_section(write):
    loaded = config.load("figure3", ['schedule={ name = "schedule3", method = "zero" }'])
    assert (loaded.schedule.name, loaded.schedule.grid) == ("schedule3", None)


def test_all_problems_are_reported_at_once(write):
    text = MINIMAL.replace("resnet20", "resnet21").replace("3", "0") + 'lr = 1\nprecision = "float16"\n'
    found = problems(write(text), "nonsense", "optimizer.decay=2", "schedule.method=aprox", "schedule.name=schedule1")
    paths = ["nonsense", "model.name", "train.epochs", "train.precision", "train.lr", "optimizer.decay"]
    assert len(found) == 7
    assert all(path in problem for path, problem in zip([*paths, "schedule.method"], found, strict=True))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batchsize=3"], "`train.batchsize` is not a key of the configuration"),
        (["train.batchsize=3"], "Did you mean 'batch_size'?"),
        (["epochs=3"], "Did you mean 'train.epochs'?"),
        (["optimizer.lr=3"], "Did you mean 'learning_rate'?"),
        (["optimizer.WD=3"], "Did you mean 'weight_decay'?"),
        (["train.bs=3"], "Did you mean 'batch_size'?"),
        (["optimizer.rate=cosin"], "'onecycle' or 'step'. Did you mean 'cosine'?"),
        (["optimiser.decay=1"], "Did you mean 'optimizer'?"),
        (["model.name=resnet2"], "no model is called 'resnet2'; there are cnn2,"),
        (["train.epochs=five"], "`train.epochs` (='five') must be a whole number."),
        (["train.epochs=1.5"], "`train.epochs` (=1.5) must be a whole number."),
        (["train.augment=1"], "`train.augment` (=1) must be true or false."),
        (["train.epochs=true"], "`train.epochs` (=True) must be a whole number."),
        (["train.batch_size=0"], "`train.batch_size` (=0) must be greater than or equal to 1."),
        (["optimizer.learning_rate=nan"], "`optimizer.learning_rate` (=nan) must be a finite number."),
        (["optimizer.decay=1.5"], "`optimizer.decay` (=1.5) must be less than or equal to 1."),
        (["train.precision=float64"], "`train.precision` (='float64') must be 'float32' or 'bfloat16'."),
        (["train=3"], "`train` (=3) must be a table."),
        (["train.epochs.x=3"], "`train.epochs.x` cannot be set"),
        (
            ["schedule.rules.4.method=zero"],
            "`schedule.rules.4` must be a table" if False else "`schedule.rules`",
        ),
        (["train.epochs"], "'train.epochs' is not an override: write KEY=VALUE"),
        (["=3"], "'=3' is not an override"),
        (["schedule.name=schedul1"], "Did you mean 'schedule1'?"),
    ],
)
def test_a_problem_names_the_path_the_value_and_the_rule(write, overrides, message):
    found = problems(write(MINIMAL), *overrides)
    assert len(found) == 1
    assert message in found[0]


def test_a_wrong_item_of_a_rule_is_named_by_its_dotted_path_without_types_in_it(write):
    rule = "[[schedule.rules]]\nlayers = { start = 0, evry = 4 }\nmethod = 'zero'\n"
    first, second = problems(write(MINIMAL + rule))
    assert first == "`schedule.rules.0.layers.start` (=0) must be greater than or equal to 1."
    assert second.startswith("`schedule.rules.0.layers.evry` is not a key")
    assert second.endswith("the keys here are start, stop, every. Did you mean 'every'?")


def test_a_missing_section_is_said_to_be_missing(write):
    assert problems(write("[model]\nname = 'cnn2'\n[train]\nepochs = 1\n")) == [
        "`data` is missing, and it has no default."
    ]


def test_a_syntax_error_is_reported_with_its_line(write):
    (problem,) = problems(write("[model]\nname = cnn2\n"))
    assert "is not valid TOML" in problem
    assert "at line 2" in problem


def test_a_file_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe\x00")
    assert "not a text file in UTF-8" in problems(str(file))[0]


def test_a_folder_is_not_a_configuration(tmp_path):
    assert "cannot be read" in problems(str(tmp_path))[0]


@pytest.mark.parametrize("source", ["cnn2-aprox", "missing/cnn2-aprox.toml"])
def test_an_unknown_preset_or_file_is_answered_with_the_nearest_preset_and_all_of_them(source):
    (problem,) = problems(source)
    assert "neither a preset nor a TOML file. Did you mean 'cnn2-approx'?" in problem
    assert "quickstart" in problem


def test_a_network_in_the_place_of_a_preset_is_answered_with_the_key_for_it():
    (problem,) = problems("resnet56")
    assert "It is a network: model.name=resnet56. The presets are" in problem


def test_a_configuration_cannot_be_changed(write):
    loaded = config.load(write(MINIMAL))
    with pytest.raises(ValidationError, match="frozen"):
        loaded.train.epochs = 4


@pytest.mark.parametrize("name", [name for name, _ in config.presets()])
def test_a_dump_spells_out_every_value_and_loads_back_to_an_equal_configuration(name, write):
    loaded = config.load(name)
    text = config.dump(loaded)
    assert set(tomllib.loads(text)) == set(Config.model_fields)
    assert config.load(write(text)) == loaded


def test_a_dump_of_rules_with_every_condition_loads_back(write):
    rules = """
[schedule]
until_epoch = 2
[[schedule.rules]]
layers = { start = 2, stop = 18, every = 4 }
stride = 2
path = "stage2/*"
steps = { start = 0, stop = 1000, every = 2 }
epochs = { from = 1, to = 10 }
method = "approx"
params = { k = 4, scale = "paper" }
order = 1
[[schedule.rules]]
layers = [2, 6]
method = "zero"
"""
    loaded = config.load(write(MINIMAL + rules))
    assert config.load(write(config.dump(loaded))) == loaded


def test_the_data_folder_is_kept_as_an_absolute_path(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.load(write(MINIMAL), ["data.dir=images"]).data.dir == str(tmp_path / "images")


def test_presets_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.load("resnet20-schedule2-approx").schedule.name == "schedule2"


def test_a_file_of_the_same_name_does_not_hide_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cnn2-full").write_text(MINIMAL)
    assert config.load("cnn2-full").model.name == "cnn2"


def test_an_epoch_has_as_many_steps_as_whole_batches():
    assert config.steps_per_epoch(config.load("cnn2-full")) == 50_000 // 128


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(ConfigError, match=r"`train.batch_size` \(=100000\) must be at most"):
        config.steps_per_epoch(config.load("quickstart", ["train.batch_size=100000"]))


def test_a_long_table_given_as_the_first_argument_is_an_override_and_no_file_name():
    grid = "[" + ", ".join(['["full", "zero"]'] * 5) + "]"
    found = config.load(*config.split([f"schedule={{ grid = {grid}, max_columns = 2 }}" + " " * 300]))
    assert found.schedule.grid == (("full", "zero"),) * 5


def test_a_network_of_ones_own_is_named_by_its_target_and_takes_arguments(write):
    text = MINIMAL.replace('name = "resnet20"', 'target = "tests.networks:Small"\narguments = { width = 3 }')
    found = config.load(write(text)).model
    assert (found.name, found.target, found.network().arguments) == ("Small", "tests.networks:Small", {"width": 3})
    assert config.load(write(text), ["model.name=mine"]).model.name == "mine"
    ours = config.load(write(MINIMAL), ["model.arguments={ classes = 7 }"]).model.network()
    assert ours.arguments == {"depth": 20, "classes": 7}


@pytest.mark.parametrize("target", ["nets", "a b:c", "nets:"])
def test_a_target_that_is_none_is_an_error(target, write):
    with pytest.raises(ConfigError, match=r"`model\.target`") as found:
        config.load(write(MINIMAL), [f"model.target={target}"])
    with pytest.raises(ConfigError) as unnamed:
        config.load(write(MINIMAL.replace('name = "resnet20"', f'target = "{target}"')))
    assert found.value.problems == unnamed.value.problems  # and none about a name
    assert f"{target!r} must be PACKAGE.MODULE:CLASS, such as mynet:Net" in found.value.problems[0]


@pytest.mark.parametrize("rate", ["constant", "exponential", "cosine", "linear", "onecycle", "step"])
def test_only_a_rate_that_does_not_know_the_end_of_the_run_is_trained_longer(rate, write):
    before, after = (
        config.plain(config.load(write(MINIMAL), [f"optimizer.rate={rate}", f"train.epochs={epochs}"]))
        for epochs in (3, 4)
    )
    config.refuse_changes(before, before)
    if rate in ("constant", "exponential"):
        config.refuse_changes(before, after)
    else:
        with pytest.raises(ConfigError, match=rf"train.epochs: it was 3 and cannot become 4, .*optimizer.rate={rate}"):
            config.refuse_changes(before, after)


@pytest.mark.parametrize("given", ["nesterov=true", "momentum=0.5"])
@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_what_an_optimiser_does_not_read_is_refused(name, given, write):
    with pytest.raises(ConfigError, match=rf"`{given.partition('=')[0]}` is of sgd and muon, and {name} does not read"):
        config.load(write(MINIMAL), [f"optimizer.name={name}", f"optimizer.{given}"])
    spelled = config.load(write(MINIMAL), [f"optimizer.name={name}", "optimizer.momentum=0.9"])
    assert config.load(write(config.dump(spelled))) == spelled
    config.load(write(MINIMAL), ["optimizer.name=muon", f"optimizer.{given}"])


@pytest.mark.parametrize("override", ["schedule.method=full", "schedule.name=full", "schedule.rules=[]"])
def test_the_way_to_the_exact_baseline_of_rules_is_in_each_error_on_it_and_works(override, write):
    file = write(f'{MINIMAL}[[schedule.rules]]\nmethod = "zero"\n')
    with pytest.raises(ConfigError) as error:
        config.load(file, [override])
    (found,) = re.findall(r"'(schedule=.*?)'", str(error.value))
    assert config.load(file, [found]).schedule.name == "full"
