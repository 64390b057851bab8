"""What is refused or warned of before a run begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from approxtrain.errors import ConfigError
from approxtrain.training.workload import Workload


def test_a_warm_up_that_is_longer_than_the_run_is_refused(configure):
    config = configure({"name": "full"})
    for warmup in (3.0, 3.5):
        table = {**config.model_dump(by_alias=True), "optimizer": {"warmup": warmup}}
        asked = type(config).model_validate(table)
        if warmup == 3:
            Workload.of(asked)
            continue
        with pytest.raises(ConfigError, match=r"`optimizer\.warmup` \(=3\.5 epochs\) is longer than the run"):
            Workload.of(asked)


def test_a_class_without_an_image_to_validate_on_is_named(configure):
    work = Workload.of(configure({"name": "full"}))
    assert list(work.not_validated()) == []
    train, validation = work.dataset.arrays
    few = replace(validation, images=validation.images[:1], labels=np.array([3]))
    for split, labels in ((few, "'airplane', 'automobile', 'bird' and 6 more"), (train, None)):
        found = list(replace(work, dataset=replace(work.dataset, validation=split)).not_validated())
        assert found == (
            [f"No image to validate on is of the class {labels}: accuracies leave it out."] if labels else []
        )


@pytest.mark.parametrize(
    ("images", "batch", "said"),
    [
        (180, 128, "takes 128 of the 180 training images, others each time. With train.batch_size=90 it takes 180."),
        (100, 60, "takes 60 of the 100 training images, others each time. With train.batch_size=50 it takes 100."),
        (45_000, 128, None),
        (128, 128, None),
    ],
)
def test_a_batch_that_leaves_many_images_out_is_warned_of(images, batch, said, configure):
    work = Workload.of(configure({"name": "full"}))
    work = replace(work, config=configure({"name": "full"}, batch_size=batch))
    some = replace(work, dataset=replace(work.dataset, train=range(images)))
    assert list(some.left_over()) == ([f"train.batch_size={batch}: an epoch {said}"] if said else [])


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 broken image is left out: a0"),
        (3, "3 broken images are left out: a0, a1, a2"),
        (4, "4 broken images are left out: a0, a1, a2 …"),
    ],
)
def test_an_ellipsis_stands_for_something(small, configure, count, said):
    work = Workload.of(configure({"name": "full"}))
    skipped = tuple(f"a{number}" for number in range(count))
    work = replace(work, dataset=replace(work.dataset, skipped=skipped))
    assert [*work.warnings("host")] == [said]


def test_what_a_run_never_does_is_said_before_it_begins(tmp_path, configure):
    late = {"method": "zero", "epochs": {"from": 4}, "order": 1}
    config = configure({"rules": [{"method": "approx"}, late], "until_epoch": 4, "dispatch": "host"}, chunk=3)
    assert Workload.of(config).without_effect("host") == [
        "schedule.rules.1 is never used: its first step would be 18, of 18 from 0.",
        "schedule.until_epoch=4 is never reached: the run has 3 epochs.",
        "train.chunk=3 has no effect: under host dispatch, steps of different columns are different programs.",
    ]
    late = {"epochs": {"from": 4}}
    sized = configure({"image_sizes": [{"size": 16, **late}], "image_shares": [{"share": 0.5, **late}]})
    assert Workload.of(sized).without_effect("switch") == [
        "schedule.image_sizes: images of 16 pixels: that is never used: the first step would be 18, of 18 from 0.",
        "schedule.image_shares: 0.5 of each batch: that is never used: the first step would be 18, of 18 from 0.",
    ]
    lasting = {"rules": [{"method": "approx", "epochs": {"to": 9}}], "image_shares": [{"share": 0.5}]}
    assert Workload.of(configure(lasting)).without_effect("switch") == []
    fitting = configure({"rules": [{"method": "approx"}], "until_epoch": 3}, chunk=3)
    assert Workload.of(fitting).without_effect("switch") == []
