"""The presets: each header says what it must, and the table in configs/README.md repeats the headers."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from approxtrain import config, models
from approxtrain.schedule import Schedule
from approxtrain.training.optimizer import learning_rate

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = [name for name, _ in config.presets()]
OTHERS = ("quickstart", "figure3", "resnet20-fast", "resnet50-imagenet")
"""None of the paper's experiments on CIFAR-10."""
IMAGENET = 1_281_167
"""Images to train on."""
PAPER_EPOCHS = {"cnn2": 500, "resnet14": 250, "resnet20": 250, "vgg19": 200}


def comment(name: str) -> list[str]:
    """The lines of the file's header, without their marks."""
    lines = (CONFIGS / f"{name}.toml").read_text("utf-8").splitlines()
    return [line.removeprefix("#").strip() for line in lines[: lines.index("")]]


def header(name: str) -> dict[str, str]:
    return {key: text.strip() for key, colon, text in (line.partition(":") for line in comment(name)) if colon}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_opens_with_a_purpose_that_fits_into_a_terminal(name):
    assert 0 < len(comment(name)[0]) <= 51
    assert ":" not in comment(name)[0].split()[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_header_gives_command_expectation_time_and_what_is_ours(name):
    stated = header(name)
    assert f"approxtrain train {name}" in stated["Command"]
    assert {"Expected accuracy", "Time and device", "Ours, the paper does not state it"} <= stated.keys()


DEEP = "resnet50-imagenet"
"""Takes seconds to trace."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.gate] * (name == DEEP)) for name in NAMES])
def test_the_preset_loads_and_its_schedule_fits_its_model(name):
    preset = config.load(name)
    layers = models.get(preset.model.name).layers
    steps = IMAGENET // preset.train.batch_size if name == DEEP else config.steps_per_epoch(preset)
    schedule = Schedule.from_config(preset.schedule, layers, steps, preset.train.epochs)
    assert len(schedule.column(0)) == len(layers)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHERS])
def test_the_experiments_of_the_paper_have_its_epochs_batch_and_data(name):
    preset = config.load(name)
    stated = (preset.train.epochs, preset.train.batch_size, preset.train.validate_every, preset.data.name)
    assert stated == (PAPER_EPOCHS[preset.model.name], 128, 10, "cifar10")


@pytest.mark.gate
def test_imagenet_is_trained_on_by_the_recipe_of_the_field_whose_learning_rate_grows_with_the_batch():
    preset = config.load("resnet50-imagenet")
    model = preset.model.network().on((preset.data.image_size, preset.data.image_size, 3), 1000)
    assert (model.parameters, len(model.layers)) == (25_557_032, 53)
    macs = sum(prod(layer.shape.y_shape) // layer.shape.batch * prod(layer.shape.w_shape[:3]) for layer in model.layers)
    assert macs == pytest.approx(4.087e9, rel=1e-3)  # without the linear layer's 2 million
    optimizer, train, steps = preset.optimizer, preset.train, IMAGENET // preset.train.batch_size
    rate = learning_rate(optimizer, steps, train.epochs * steps)
    assert 256 * optimizer.learning_rate / train.batch_size == pytest.approx(0.1)
    assert float(rate(5 * steps)) == pytest.approx(0.1)
    assert float(rate(5 * steps // 2)) == pytest.approx(0.05, rel=1e-3)
    assert float(rate(90 * steps - 1)) < 1e-6
    assert (train.epochs, train.label_smoothing, train.precision, train.augment) == (90, 0.1, "bfloat16", True)
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == ("sgd", 0.9, True, 1e-4)


def test_the_literal_grid_is_the_named_schedule_figure3():
    preset = config.load("figure3")
    layers = models.get(preset.model.name).layers
    named = config.load("figure3", ['schedule={ name = "figure3" }'])
    literal, builtin = (Schedule.from_config(c.schedule, layers, 10) for c in (preset, named))
    assert preset.schedule.dispatch == "switch"
    assert [literal.column(step) for step in range(8)] == [builtin.column(step) for step in range(8)]


def test_the_table_says_what_the_headers_say():
    lines = (CONFIGS / "README.md").read_text("utf-8").splitlines()
    expected = []
    for name, purpose in config.presets():
        stated = header(name)
        expected.append(f"| `{name}` | {purpose} | {stated['Expected accuracy']} | {stated['Time and device']} |")
    assert [line for line in lines if line.startswith("| `")] == expected
