"""What `optimizer.dropback` may say, and in which words it is refused."""

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
        (["train.average=0.9", "optimizer.dropback.keep=0.1"], r"`train.average`=0.9.*leave one of the two out"),
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


def test_a_run_whose_choice_is_frozen_at_a_share_of_it_is_not_made_longer():
    for freeze, refused in (("'50%'", True), ("1", False)):
        table = ["optimizer.name=sgd", f"optimizer.dropback={{ keep = 0.1, freeze = {freeze} }}"]
        before, after = (
            configuration.plain(configuration.load("quickstart", [*table, f"train.epochs={n}"])) for n in (3, 4)
        )
        if not refused:
            configuration.refuse_changes(before, after)
            continue
        with pytest.raises(
            ConfigError, match=r"train.epochs: it was 3 .* because optimizer.dropback.freeze is a share"
        ):
            configuration.refuse_changes(before, after)
