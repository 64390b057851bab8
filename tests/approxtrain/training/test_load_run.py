"""A trained network out of its folder: its weights, the best checkpoint, what it says of images, and its export."""

from __future__ import annotations

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open

import approxtrain
from approxtrain import data
from approxtrain.errors import CheckpointError, ConfigError, DataError
from approxtrain.models.forward import forward
from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.export import write_safetensors
from approxtrain.training.loop import Run
from approxtrain.training.measure_run import measure
from tests.networks import Small

pytestmark = pytest.mark.gate


@pytest.fixture(scope="module")
def trained(configure, tmp_path_factory):
    """A run of two seeds and five epochs, of which only the last two checkpoints and the best are kept."""
    path = tmp_path_factory.mktemp("trained") / "run"
    config = configure({"name": "schedule1"}, epochs=5, validate_every=1, seeds=2, seed=4)
    model = config.model.model_copy(update={"target": "tests.networks:Small", "name": "small"})
    with RunFolder.create(path) as folder:
        Run(config.model_copy(update={"model": model}), folder, Listener()).train()
    return path


def validations(path, seed):
    rows = record.rows(path / record.METRICS)
    return {row["step"]: row["accuracy"] for row in rows if row["kind"] == "validation" and row["seed"] == seed}


def losses(path, seed):
    rows = record.rows(path / record.METRICS)
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "validation" and row["seed"] == seed}


def test_the_best_checkpoint_stays_beside_the_newest_two(trained):
    kept = {int(path.name.removeprefix("step-")) for path in (trained / "checkpoints").iterdir()}
    mean = {step: validations(trained, 4)[step] + validations(trained, 5)[step] for step in validations(trained, 4)}
    loss = {step: losses(trained, 4)[step] + losses(trained, 5)[step] for step in mean}
    best = max(mean, key=lambda step: (mean[step], -loss[step], -step))
    assert kept == {24, 30, best}
    assert approxtrain.load_run(trained).step == best
    assert approxtrain.load_run(trained, which="last").step == 30


@pytest.mark.parametrize("seed", [4, 5])
def test_it_says_of_the_validation_images_what_the_run_said(trained, seed):
    found = measure(trained, which="last", seed=seed)
    assert found["accuracy"] == pytest.approx(validations(trained, seed)[30])
    assert (found["images"], found["same_images"]) == (40, True)
    classes = found["classes"].values()
    assert sum(each["images"] for each in classes) == 40
    right = sum(each["images"] * each["accuracy"] for each in classes if each["images"])
    assert right / 40 == pytest.approx(found["accuracy"])


def test_probabilities_are_those_of_the_module_on_normalised_images(trained):
    run = approxtrain.load_run(trained)
    dataset = data.load(run.config.data)
    x = (dataset.validation.images.astype(np.float32) - run.mean) / run.std
    expected = jax.nn.softmax(forward(run.model, jnp.asarray(x), training=False))
    np.testing.assert_allclose(run.predict(dataset.validation.images), expected, rtol=1e-5, atol=1e-6)
    assert run.class_names == tuple(dataset.class_names)
    with pytest.raises(ValueError, match=r"`images` must be uint8 \[N, 32, 32, 3\], but are float32"):
        run.predict(x)


def test_the_export_loads_back_without_this_program(trained, tmp_path):
    run = approxtrain.load_run(trained)
    write_safetensors(run, tmp_path / "run.safetensors")
    with safe_open(tmp_path / "run.safetensors", "numpy") as file:
        facts = {name: json.loads(value) for name, value in file.metadata().items()}
        network = Small(len(facts["classes"]), rngs=nnx.Rngs(0))
        graph, state = nnx.split(network)
        filled = {path: file.get_tensor(".".join(map(str, path))) for path, _ in nnx.to_flat_state(state)}
    network = nnx.merge(graph, nnx.from_flat_state({path: nnx.Param(leaf) for path, leaf in filled.items()}))
    network.eval()
    images = data.load(run.config.data).validation.images
    logits = network((images - np.float32(facts["mean"])) / np.float32(facts["std"]))
    np.testing.assert_allclose(jax.nn.softmax(logits), run.predict(images), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_loaded_is_said(trained, tmp_path, pictures):
    with pytest.raises(ConfigError, match=r"holds no config.toml"):
        approxtrain.load_run(tmp_path)
    with pytest.raises(ConfigError, match=r"the run has the seeds 4 to 5, and not 7"):
        approxtrain.load_run(trained, seed=7)
    (tmp_path / "config.toml").write_bytes((trained / "config.toml").read_bytes())
    with pytest.raises(CheckpointError, match=r"there is no checkpoint"):
        approxtrain.load_run(tmp_path)
    with pytest.raises(ConfigError, match=r"`train.epochs=3`: only keys of \[data\]"):
        measure(trained, ["train.epochs=3"])


def test_the_test_split_of_a_data_set_of_one_s_own_is_measured_on_and_else_refused(trained, monkeypatch):
    own = data.load(approxtrain.load_run(trained).config.data)
    splits = {"class_names": own.class_names, "train": own.train, "validation": own.validation}
    monkeypatch.setattr(data, "_find", lambda config: SimpleNamespace(**splits))
    with pytest.raises(DataError, match="has no test images"):
        measure(trained, split="test")
    monkeypatch.setattr(data, "_find", lambda config: SimpleNamespace(**splits, test=own.train))
    assert measure(trained, split="test")["images"] == 200
    assert measure(trained)["images"] == 40
