"""What `optimizer.dropback` and `optimizer.prunetrain` may say, and in which words the rest is refused."""

from __future__ import annotations

import pytest

from approxtrain import config as configuration
from approxtrain.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["optimizer.dropback={}"], r"`optimizer.dropback.keep` is missing"),
        (["optimizer.dropback.keep=0"], r"`optimizer.dropback.keep` \(=0\) must be greater than 0"),
        (["optimizer.dropback.keep=1.5"], r"`optimizer.dropback.keep` \(=1.5\) must be less than or equal to 1"),
        (["optimizer.dropback.keep=nan"], r"`optimizer.dropback.keep` \(=nan\) must be"),
        (["optimizer.dropback={ keep = 0.1, freeze = '0%' }"], r"freeze`: \(='0%'\) must be later than the start"),
        (["optimizer.dropback={ keep = 0.1, freeze = 'soon' }"], r"must be a whole number, or a share of the run"),
        (["optimizer.dropback={ keeps = 0.1 }"], r"is not a key of the configuration.*Did you mean 'keep'"),
        (["optimizer.name=adam", "optimizer.dropback.keep=0.1"], r"adam moves all of them .*take name=\"sgd\""),
        (["train.average=0.9", "optimizer.dropback.keep=0.1"], r"`train.average`=0.9.*leave one of them out"),
    ],
)
def test_what_it_cannot_mean_is_refused_in_words(overrides, told):
    with pytest.raises(ConfigError, match=told):
        configuration.load("quickstart", ["optimizer.name=sgd", *overrides])


def test_all_that_is_wrong_is_told_at_once():
    wrong = [
        "optimizer.name=lion",
        "optimizer.clip=0",
        "optimizer.dropback={ keep = 0.1, freeze = 3 }",
        "train.epochs=0",
    ]
    with pytest.raises(ConfigError) as error:
        configuration.load("quickstart", wrong)
    assert [problem.partition("`")[2].partition("`")[0] for problem in error.value.problems] == [
        "train.epochs",
        "optimizer.clip",
        "optimizer.dropback",
    ]


@pytest.mark.parametrize(
    ("table", "share"),
    [
        ("dropback={ keep = 0.1, freeze = '50%' }", "dropback.freeze"),
        ("dropback={ keep = 0.1, freeze = 1 }", None),
        ("prunetrain={}", "prunetrain.every"),
        ("prunetrain={ every = 1 }", None),
    ],
)
def test_a_run_that_changes_at_a_share_of_it_is_not_made_longer(table, share):
    overrides = ["optimizer.name=sgd", f"optimizer.{table}"]
    loaded = (configuration.load("quickstart", [*overrides, f"train.epochs={epochs}"]) for epochs in (3, 4))
    before, after = map(configuration.plain, loaded)
    if share is None:
        configuration.refuse_changes(before, after)
        return
    with pytest.raises(ConfigError, match=rf"train.epochs: it was 3 .* because optimizer.{share} is a share"):
        configuration.refuse_changes(before, after)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["optimizer.prunetrain.ratio=1"], r"`optimizer.prunetrain.ratio` \(=1\) must be less than 1"),
        (["optimizer.prunetrain.ratio='much'"], r"`optimizer.prunetrain.ratio` \(='much'\) must be a number"),
        (["optimizer.prunetrain.threshold=inf"], r"`optimizer.prunetrain.threshold` \(=inf\) must be a finite number"),
        (["optimizer.prunetrain.threshold=0"], r"`optimizer.prunetrain.threshold` \(=0\) must be greater than 0"),
        (["optimizer.prunetrain.every=0"], r"`optimizer.prunetrain.every` \(=0\) must be greater than or equal to 1"),
        (["optimizer.prunetrain.every='0%'"], r"every`: \(='0%'\) must be later than the start"),
        (["optimizer.prunetrain.ratios=0.1"], r"is not a key of the configuration.*Did you mean 'ratio'"),
        (["optimizer.name=muon", "optimizer.prunetrain={}"], r"muon takes of a gradient .*take name=\"sgd\""),
        (["optimizer.dropback.keep=0.1", "optimizer.prunetrain={}"], r"`optimizer.prunetrain`: .*take one of them"),
        (["train.average=0.9", "optimizer.prunetrain={}"], r"`train.average`=0.9.*leave one of them out"),
    ],
)
def test_a_pruning_that_cannot_be_meant_is_refused_in_words(overrides, told):
    with pytest.raises(ConfigError, match=told):
        configuration.load("quickstart", ["optimizer.name=sgd", *overrides])


def test_a_pruning_has_defaults_and_a_dump_of_it_reads_back(tmp_path):
    loaded = configuration.load("quickstart", ["optimizer.name=sgd", "optimizer.prunetrain={}"])
    table = loaded.optimizer.prunetrain
    assert table is not None
    assert (table.ratio, table.threshold, table.every) == (0.2, 1e-4, "10%")
    (tmp_path / "dumped.toml").write_text(configuration.dump(loaded), "utf-8")
    assert configuration.load(str(tmp_path / "dumped.toml")) == loaded
