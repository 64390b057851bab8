"""Worth in images, of losses that are planted on a known course."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from approxtrain.worth.fork_file import Fork
from approxtrain.worth.shares import Row, Worth, rows, verdict, worth

EPOCH, STEPS = 400, 100
TIMES = {"arm": {"1": 0.7, "2": 0.8, "3": 0.9}}


def course(n: float) -> float:
    """The loss after n exact steps."""
    return 2.0 - 0.3 * math.log(n) + 0.01 * math.log(n) ** 2


def fork(epoch: int, arm: str, losses, share: float = 1.0, **more) -> Fork:
    return Fork(epoch, EPOCH * epoch, arm, round(share * STEPS), list(losses), [0.5] * len(losses), **more)


def exact(epochs=(1, 2, 3), noise=lambda: np.zeros(3)) -> list[Fork]:
    """After each epoch exact forks on a half, three quarters and all of the images."""
    ends = [(epoch, share, EPOCH * epoch + share * STEPS) for epoch in epochs for share in (0.5, 0.75, 1.0)]
    return [fork(epoch, f"exact, {share}", course(end) + noise(), share) for epoch, share, end in ends]


def whole(found: list[Fork], epoch: int) -> Fork:
    return next(each for each in found if (each.epoch, each.steps) == (epoch, STEPS))


@pytest.mark.parametrize("share", [-0.5, 0.4, 1.0, 1.2])
@pytest.mark.parametrize("until", [0.5, 1.0])
@pytest.mark.parametrize("epochs", [(1,), (1, 2, 3), (1, 2, 3, 4)])
def test_what_is_as_far_as_exact_training_of_a_share_of_its_steps_is_worth_that_share(share, until, epochs):
    found = exact(epochs)
    behind = (1 - share) * until * STEPS
    arm = fork(1, "arm", [course(EPOCH + STEPS - behind)] * 3, until=until)
    assert worth(arm, whole(found, 1), found).value == pytest.approx(share, abs=0.05)


def test_noise_that_exact_steps_share_is_no_error():
    found = exact(noise=lambda: np.array([-0.01, 0.0, 0.01]))
    like = whole(found, 2)
    worse = replace(like, arm="arm", losses=[loss + 0.01 for loss in like.losses])
    result = worth(worse, like, found)
    assert result.value == pytest.approx(1 - 0.01 * result.by_loss, abs=0.02)
    assert (result.error, result.freedom) == (pytest.approx(0, abs=1e-9), 2)
    assert result.by_loss == pytest.approx(900 / (0.3 - 0.02 * math.log(900)) / STEPS, rel=0.15)


def test_where_one_of_the_seeds_alone_gives_a_worth_nothing_is_known_of_its_error():
    found = [replace(each, losses=[each.losses[0], 3.0 + each.end / 1e4]) for each in exact()]
    result = worth(fork(2, "arm", [1.0, 1.0]), whole(found, 2), found)
    assert (result.error, result.interval) == (None, None)
    assert verdict(Row("arm", 2, 1.0, result, 0.8)).startswith("not known")


def test_one_seed_has_an_error_where_the_exact_forks_have_several():
    found = exact()
    alone = fork(1, "arm", [1.0])
    assert worth(alone, whole(found, 1), [replace(each, losses=each.losses[:1]) for each in found]).interval is None
    rng = np.random.default_rng(0)
    noisy = exact(noise=lambda: rng.normal(0, 0.01, 3))
    one = worth(alone, replace(whole(noisy, 1), losses=[1.0]), noisy)
    slope = -0.3 + 0.02 * math.log(500)
    assert one.freedom == 6  # the exact forks after one epoch have their orders of the images in common
    assert one.error == pytest.approx(math.sqrt(2) * 0.01 * 500 / abs(slope) / STEPS, rel=0.4)


def test_exact_forks_that_gain_nothing_measure_nothing():
    flat = [replace(each, losses=[1.0 + each.end / 1e4] * 3) for each in exact()]
    assert worth(fork(1, "arm", [1.2] * 3), whole(flat, 1), flat) is None


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    rng, held, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        common = rng.normal(0, 0.01, 5)  # of one seed, whatever is done
        found = exact(noise=lambda: rng.normal(0, 0.003, 5))
        like = fork(2, "exact, all", course(900) + common)
        arm = fork(2, "arm", course(880) + common + rng.normal(0, 0.003, 5))
        low, high = worth(arm, like, found).interval
        held += low <= 0.8 <= high
    assert 0.92 < held / trials < 0.985


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_interval_of_a_single_seed_holds_the_truth(scale):
    rng, held, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        found = exact(noise=lambda: scale * rng.normal(0, 0.001, 3))
        like, arm = (
            fork(2, name, [course(end) + scale * rng.normal(0, 0.001)]) for name, end in (("", 900), ("", 880))
        )
        low, high = worth(arm, like, found).interval
        held += low <= 0.8 <= high
    assert 0.95 < held / trials < 1


def test_a_fork_is_held_against_the_exact_one_of_as_many_steps_after_the_same_epoch():
    found = [*exact(), fork(2, "half", [course(840)] * 3, 0.5), fork(3, "arm", [course(1290)] * 3)]
    table = {(row.arm, row.epoch): row for row in rows(found, {"half": {"2": 0.7}} | TIMES)}
    assert table["half", 2].worth.value == pytest.approx(0.8, abs=0.02)
    assert table["arm", 3].worth.value == pytest.approx(0.9, abs=0.02)
    assert set(table) == {("half", 2), ("arm", 3)}


def test_over_all_epochs_it_is_the_mean_and_the_error_of_that():
    found = exact() + [fork(epoch, "arm", [course(EPOCH * epoch + 80 + epoch)] * 3) for epoch in (1, 2, 3)]
    *each, all_epochs = rows(found, TIMES)
    values = [row.worth.value for row in each]
    assert all_epochs.epoch is None
    assert all_epochs.worth[:3] == pytest.approx((np.mean(values), np.std(values, ddof=1) / math.sqrt(3), 2))
    assert [row.time for row in each] == [0.7, 0.8, 0.9]
    assert all_epochs.time == pytest.approx(0.8)
    assert rows(found, TIMES)[0].as_json()["worth"] == each[0].worth._asdict()


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Worth(0.95, 0.05, 8), "better"),
        (Worth(0.8, 0.05, 8), "not told from"),
        (Worth(0.5, 0.05, 8), "worse"),
        (Worth(0.9), "not known"),
        (None, "nothing to measure by"),
    ],
)
def test_a_schedule_is_held_against_training_on_fewer_images(found, says):
    assert verdict(Row("zero", 1, 1.0, found, 0.8)).startswith(says)
