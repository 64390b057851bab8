"""Several seeds in one program: each trains as it would alone, and the column is chosen once for all of them."""

from __future__ import annotations

import re
import statistics
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from approxtrain import disk
from approxtrain.config import Config, dump, load
from approxtrain.errors import ConfigError, DivergedError
from approxtrain.run import checkpoint, curves, record
from approxtrain.run.folder import RunFolder, default_path
from approxtrain.training import saving, seeds
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.seeds import over_seeds

pytestmark = pytest.mark.gate

FORMS = ["map", "vmap"]
COLUMNS = {"grid": [["full", "full", "zero"], ["approx", "random", "full"], ["full", "zero", "full"]]}
ALTERNATING = {"method": "approx", "layers": [2], "steps": {"every": 2}}


class Note(Listener):
    def __init__(self) -> None:
        self.losses, self.epochs, self.seeds = [], [], []

    def begin(self, work, step):
        self.seeds = list(work.config.train.all_seeds)

    def step(self, step, losses):
        self.losses.append(list(losses))

    def epoch(self, row):
        self.epochs.append(row)


def start(path: Path, config: Config, listener: Listener | None = None) -> dict:
    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        return Run(config, folder, listener or Listener()).train()


@pytest.mark.parametrize(("form", "mode"), [("map", "switch"), ("vmap", "host")])
def test_the_first_20_losses_are_those_of_each_seed_alone(form, mode, assemble, pocket):
    _, together = assemble(pocket, COLUMNS, mode=mode, seed=3, seeds=2, seeds_by=form).run(20)
    for place, seed in enumerate((3, 4)):
        _, alone = assemble(pocket, COLUMNS, mode=mode, seed=seed).run(20)
        np.testing.assert_allclose([losses[place] for losses in together], alone, rtol=0, atol=1e-5)


def test_every_seed_begins_as_it_would_alone_and_the_step_is_one_scalar(assemble, pocket):
    bench = assemble(pocket, COLUMNS, seed=3, seeds=2)
    assert bench.state.step.shape == ()
    for place, seed in enumerate((3, 4)):
        alone = assemble(pocket, COLUMNS, seed=seed)
        for together, its in zip(jax.tree.leaves(bench.state.params), jax.tree.leaves(alone.state.params), strict=True):
            np.testing.assert_array_equal(together[place], its[0])
        np.testing.assert_array_equal(bench.order[place], alone.order[0])


@pytest.mark.parametrize(("form", "chunk"), [("map", 1), ("vmap", 4)])
def test_one_conditional_has_a_branch_a_column_and_nothing_selects_between_states(form, chunk, assemble, pocket):
    # no `random`: drawing normal numbers of the shape of a gradient selects as well
    columns = {"grid": [["full", "full", "zero"], ["approx", "zero", "full"], ["full", "zero", "full"]]}
    bench = assemble(pocket, columns, mode="switch", seeds=2, seeds_by=form, chunk=chunk)
    bench.run(1)
    text = bench.dispatch.compiled[0, chunk].as_text()
    (branches,) = re.findall(r" conditional\(.*branch_computations=\{(.*?)\}", text)
    assert len(branches.split(",")) == len(bench.dispatch.schedule.columns) == 3
    kernels = {leaf.shape for leaf in jax.tree.leaves(bench.state.params) if leaf.ndim == 5}
    assert kernels == {(2, 3, 3, 3, 8), (2, 3, 3, 8, 8)}
    selected = re.findall(r"= f32\[([\d,]+)\]\S* select\(", text)
    assert {tuple(map(int, shape.split(","))) for shape in selected} & kernels == set()


@pytest.mark.parametrize("form", ["map", pytest.param("vmap", marks=pytest.mark.long)])
def test_a_run_of_two_seeds_has_rows_and_a_summary_of_each_as_if_alone(form, tmp_path, small, configure):
    note, schedule = Note(), {"rules": [ALTERNATING], "dispatch": "switch"}
    both = start(tmp_path / "both", configure(schedule, seed=5, seeds=2, seeds_by=form, learning_rate=0.001), note)
    rows = record.rows(tmp_path / "both" / record.METRICS)
    assert [(row["kind"], row["epoch"], row["seed"]) for row in rows] == [
        (kind, epoch, seed)
        for kind, epoch in [("train", 1), ("train", 2), ("validation", 2), ("train", 3), ("validation", 3)]
        for seed in (5, 6)
    ]
    for place, seed in enumerate((5, 6)):
        alone = start(tmp_path / str(seed), configure(schedule, seed=seed, learning_rate=0.001))
        for row, its in zip(rows[place::2], record.rows(tmp_path / str(seed) / record.METRICS), strict=True):
            assert row.keys() - {"seed"} == its.keys()
            assert (row["kind"], row["step"]) == (its["kind"], its["step"])
            assert row["loss"] == pytest.approx(its["loss"], abs=1e-4)
            assert row["accuracy"] == pytest.approx(its["accuracy"], abs=0.03)
        assert both["by_seed"][place]["seed"] == seed
        assert both["by_seed"][place]["best_epoch"] in (2, 3)
        assert both["by_seed"][place]["final_train_loss"] == pytest.approx(alone["final_train_loss"], abs=1e-4)
        assert [one["seed"] for one in alone["by_seed"]] == [seed]
        assert "final_accuracy_sd" not in alone
    for name in ("final_accuracy", "best_accuracy", "final_train_loss"):
        values = [own[name] for own in both["by_seed"]]
        assert (both[name], both[f"{name}_sd"]) == (statistics.fmean(values), statistics.stdev(values))
    assert (both["seed"], both["seeds"], both["seeds_by"]) == (5, 2, form)
    assert [len(losses) for losses in note.losses] == [2] * 18
    assert note.seeds == [5, 6]
    assert note.epochs[1]["loss"] == statistics.fmean(row["loss"] for row in rows[2:4])
    assert note.epochs[1]["validation_accuracy_sd"] == statistics.stdev(row["accuracy"] for row in rows[4:6])
    assert curves.title(tomllib.loads((tmp_path / "both" / "config.toml").read_text())).endswith("seeds 5 to 6")


def test_a_seed_that_diverges_stops_the_run_and_is_named(tmp_path, small, configure, monkeypatch):
    monkeypatch.setattr(saving, "save", lambda *_: None)  # it would find the planted NaN before the first step
    config = configure({"name": "full"}, seeds=2, checkpoint_every=1)
    with RunFolder.create(tmp_path / "run") as folder:
        run = Run(config, folder, Listener())
        bias = run.initial.params["logits"]["bias"]
        run.initial.params["logits"]["bias"] = bias.at[1].set(np.nan)
        with pytest.raises(DivergedError, match="The loss of step 1 of seed 1 is nan, before anything was trained"):
            run.train()


def test_a_checkpoint_holds_all_seeds_and_counts_the_steps_once(tmp_path, small, configure):
    config = configure({"name": "full"}, seeds=2, epochs=1)
    start(tmp_path / "run", config)
    with RunFolder.open(tmp_path / "run") as folder:
        found = checkpoint.load_latest(folder.checkpoints, Run(config, folder, Listener()).initial)
    assert found is not None
    state, meta, _ = found
    assert {leaf.shape[:1] for leaf in jax.tree.leaves(state) if leaf.ndim} == {(2,)}
    assert [int(leaf) for leaf in jax.tree.leaves(state) if not leaf.ndim] == [6, 6, 6]  # ours, and the optimiser's two
    assert meta["config"]["train"]["seeds"] == 2


def test_the_form_is_map_on_a_cpu_and_vmap_elsewhere_unless_it_is_given(assemble, pocket, monkeypatch):
    def form(**train) -> str:
        return assemble(pocket, {"name": "full"}, seeds=2, **train).dispatch.seeds_by

    assert (form(), form(seeds_by="vmap")) == ("map", "vmap")
    monkeypatch.setattr(seeds.jax, "default_backend", lambda: "gpu")
    assert (seeds.default_form(), form(seeds_by="map")) == ("vmap", "map")


@pytest.mark.parametrize("form", FORMS)
def test_a_single_seed_is_no_loop_and_no_batch_of_one(form):
    def of_one_seed(x: jax.Array, w: jax.Array) -> jax.Array:
        assert (x.shape, w.shape) == ((2, 4, 4, 3), (3, 3, 3, 5))
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def of_all(number: int) -> tuple[str, tuple[int, ...]]:
        function, x, w = over_seeds(of_one_seed, form), np.ones((number, 2, 4, 4, 3)), np.ones((number, 3, 3, 3, 5))
        return str(jax.make_jaxpr(function)(x, w)), jax.eval_shape(function, x, w).shape

    text, shape = of_all(1)
    assert shape == (1, 2, 4, 4, 5)
    assert ("scan" in text, "feature_group_count=1" in text) == (False, True)
    text, shape = of_all(3)
    assert shape == (3, 2, 4, 4, 5)
    assert ("scan" in text, "feature_group_count=3" in text) == (form == "map", form == "vmap")


def test_the_last_seed_must_be_one_that_can_be_given_alone():
    with pytest.raises(ConfigError, match=r"`train\.seeds`: the last seed, `seed` \(=4294967295\) \+ 1, must be less"):
        load("quickstart", ["train.seed=4294967295", "train.seeds=2"])
    assert load("quickstart", ["train.seed=4294967294", "train.seeds=2"]).train.all_seeds[-1] == 2**32 - 1


def test_a_folder_is_named_by_its_seeds(tmp_path):
    assert default_path("cnn2", seed=3, seeds=4, root=tmp_path).name.startswith("cnn2-s3-6-2")
