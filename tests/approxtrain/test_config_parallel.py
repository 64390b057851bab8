"""The table [parallel]: what several devices cannot do is said before anything starts; one device has none of it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import pytest

from approxtrain.config import load, plain, refuse_changes
from approxtrain.errors import ConfigError
from approxtrain.training.parallel import Replicas

REFUSED = {
    "train.batch_size=100": ": 8 devices cannot have equal parts of a batch of 100 images: train.batch_size=96 or 104.",
    "train.batch_size=4": ": 8 devices cannot have equal parts of a batch of 4 images: train.batch_size=8.",
    "train.seeds=2": ": 8 devices train one seed at a time: train.seeds=1, and a run for each seed.",
    "schedule.dispatch=switch": ": on 8 devices each column of a schedule is a program: "
    'schedule.dispatch="host" or "auto".',
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_several_devices_cannot_do_is_said_in_words(override):
    with pytest.raises(ConfigError) as caught:
        load("quickstart", ["parallel.devices=8", override])
    assert caught.value.problems == ["`parallel`" + REFUSED[override]]


def test_one_device_can_do_all_of_it():
    loaded = load("quickstart", ["train.batch_size=100", "train.seeds=2", "schedule.dispatch=switch"])
    assert (loaded.parallel.devices, loaded.parallel.batch_norm) == (1, "synchronised")


def test_more_devices_than_there_are_is_refused_with_their_number_and_a_remedy():
    there = len(jax.local_devices())
    with pytest.raises(ConfigError) as caught:
        Replicas.of(load("quickstart", [f"parallel.devices={8 * there}", f"train.batch_size={8 * there}"]))
    words = str(caught.value)
    assert (
        f"`parallel.devices` (={8 * there}): there {'is 1 device' if there == 1 else f'are {there} devices'}" in words
    )
    if jax.default_backend() == "cpu":
        assert f"XLA_FLAGS=--xla_force_host_platform_device_count={8 * there}" in words


class Device(NamedTuple):
    process_index: int


def test_a_process_reads_the_part_of_a_batch_that_its_devices_have(monkeypatch):
    assert Replicas.of(load("quickstart")).part == (0, 1)
    for number in range(3):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        assert Replicas([Device(i // 2) for i in range(6)]).part == (number, 3)


def test_what_has_one_device_as_yet_refuses_several():
    Replicas.refuse_several(load("quickstart"), "steps are timed")
    with pytest.raises(ConfigError, match=r"`parallel\.devices` \(=8\): steps are timed on one device as yet"):
        Replicas.refuse_several(load("quickstart", ["parallel.devices=8"]), "steps are timed")


def test_of_one_device_nothing_is_changed():
    alone = Replicas.of(load("quickstart"))
    step, task, tree, result = (object() for _ in range(4))
    assert alone.program(step) is step  # type: ignore[arg-type]
    assert alone.task(task) is task  # type: ignore[arg-type]
    assert alone.place(tree) is tree
    assert alone.average(task, (), result) is result  # type: ignore[arg-type]
    assert list(alone.not_synchronised(task)) == []  # type: ignore[arg-type]
    alone.refuse_unless_equal(tree)  # type: ignore[arg-type]


def test_a_run_goes_on_on_another_number_of_devices():
    one, eight = (plain(load("quickstart", [f"parallel.devices={devices}"])) for devices in (1, 8))
    refuse_changes(one, eight)
    refuse_changes(eight, one)
    earlier = {name: table for name, table in one.items() if name != "parallel"}  # of a program without the table
    refuse_changes(earlier, eight)


def test_but_not_where_batch_norm_depends_on_how_many_there_are():
    replica = ["parallel.batch_norm=replica"]
    four, eight = (plain(load("quickstart", [*replica, f"parallel.devices={devices}"])) for devices in (4, 8))
    with pytest.raises(ConfigError, match=r"parallel\.devices: it was 4 and cannot become 8"):
        refuse_changes(four, eight)
    with pytest.raises(ConfigError, match=r"parallel\.batch_norm: it was 'synchronised' and cannot become 'replica'"):
        refuse_changes(plain(load("quickstart", ["parallel.devices=8"])), eight)


@pytest.mark.parametrize(
    "depends",
    [
        "parallel.batch_norm=replica",
        "schedule={ local = [{ every = 4 }] }",
        'schedule={ rules = [{ method = "zero", replicas = { stop = 1 } }] }',
    ],
)
def test_what_depends_on_the_number_of_devices_goes_on_on_no_other(depends):
    before, after = (plain(load("quickstart", [f"parallel.devices={n}", depends])) for n in (4, 2))
    refuse_changes(before, before)
    with pytest.raises(ConfigError, match=r"parallel\.devices: it was 4 and cannot become 2") as error:
        refuse_changes(before, after)
    assert "parallel.devices" not in str(error.value).partition("may only change")[2]
