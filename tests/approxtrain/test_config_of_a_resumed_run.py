"""What may differ between a run and its resumption."""

import pytest

from approxtrain.config import load, plain, refuse_changes
from approxtrain.errors import ConfigError


def changed(*overrides: str) -> None:
    refuse_changes(plain(load("quickstart")), plain(load("quickstart", overrides)))


def test_more_epochs_other_checkpoints_and_images_that_moved_are_the_same_run():
    before = load("cnn2-approx", ["data.dir=/here"])
    after = load("cnn2-approx", ["data.dir=/there", "train.epochs=501", "train.checkpoint_every=7"])
    refuse_changes(plain(before), plain(after))


def test_all_that_makes_it_another_run_is_named_at_once():
    with pytest.raises(ConfigError) as error:
        changed("train.seed=1", "data.holdout=100", "optimizer.learning_rate=0.1", "train.epochs=2")
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "data.holdout",
        "optimizer.learning_rate",
        "train.seed",
        "train.epochs",
    ]


def test_probes_cannot_be_switched_on_or_off_on_the_way():
    with pytest.raises(ConfigError, match=r"train\.probe_every: it was None and cannot become 5"):
        changed("train.probe_every=5")


def test_how_steps_are_grouped_cannot_change_on_the_way_because_the_bits_would():
    for change in ("train.chunk=2", "train.seeds_by=vmap", "schedule.dispatch=host"):
        with pytest.raises(ConfigError, match=change.partition("=")[0]):
            changed(change)


def test_a_key_that_an_earlier_program_did_not_know_is_taken_for_its_default():
    now = plain(load("quickstart"))
    since = {"catch_up", "image_sizes", "image_shares"}
    schedule = {key: value for key, value in now["schedule"].items() if key not in since}
    earlier = {name: table for name, table in now.items() if name != "parallel"} | {"schedule": schedule}
    refuse_changes(earlier, now)
    with pytest.raises(ConfigError, match=r"schedule\.catch_up: it was False and cannot become True"):
        refuse_changes(earlier, plain(load("quickstart", ["schedule.catch_up=true"])))
