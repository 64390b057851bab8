"""Local SGD on four virtual devices: each by itself for some steps, and then the mean of all.

This file is a program too (`tests/devices.py`).
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.errors import ConfigError, VerificationError
from approxtrain.training.moved import by_path
from approxtrain.training.workload import Workload
from tests.devices import Checks
from tests.replicas import ADAM, BATCH, Interrupted, alone, assert_close, bench, collectives, configured, train

DEVICES = 4
LOCAL = {"local": [{"every": 4}]}
"""Of six steps of an epoch, the fourth and the sixth are outer ones."""


def copies_of_their_own(column: tuple[str, ...] = ("full",) * 3) -> None:
    """After four steps, the mean of what each device comes to by itself."""
    schedule = {"grid": [[name] for name in column]} | LOCAL
    made, ends = bench(schedule, DEVICES, train={"augment": False}, **ADAM), []
    order, size = np.asarray(made.order), BATCH // DEVICES
    for replica in range(DEVICES):
        own = np.concatenate([order[:, step * BATCH + replica * size :][:, :size] for step in range(6)], axis=1)
        ends.append(alone(column, DEVICES, adam=True)._replace(order=jnp.asarray(own)).run(4)[0])
    ours, _, _ = made.run(4)  # and then its copies are equal
    found = {"params": ours.params, "stats": ours.stats, "moments": ours.opt_state, "loss": ours.loss_sum}
    expected = [{"params": e.params, "stats": e.stats, "moments": e.opt_state, "loss": e.loss_sum} for e in ends]
    mean = jax.tree.map(lambda *leaves: np.mean([np.asarray(leaf) for leaf in leaves], 0), *expected)
    assert_close(by_path(found), by_path(mean), 1e-4)
    assert int(ours.correct_sum[0]) == sum(int(end.correct_sum[0]) for end in ends)
    with pytest.raises(VerificationError, match="the devices have different numbers"):
        made.run(3)


def what_is_sent_by_local_steps() -> None:
    """Nothing, and then all; `channels` and methods that draw ask nobody."""
    made = bench({"grid": [["channels"], ["mvue"], ["corrected"]]} | LOCAL, DEVICES, **ADAM)
    inexact = [leaf for leaf in jax.tree.leaves(made.state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    texts = [made.dispatch.program(step, made.state, made.images, made.order).as_text() for step in (0, 3)]
    numbers = sum(leaf.size for leaf in inexact) + 2  # and loss and number of right images
    assert [*map(collectives, texts)] == [{}, {"all-reduce": 4 * numbers}]


def what_one_device_alone_sees() -> None:
    """A loss that is not finite on the third device shows in that of the first, after the mean and not before."""
    made = bench(LOCAL, DEVICES, train={"augment": False}, **ADAM)
    images = made.images._replace(pixels=made.images.pixels.astype(jnp.float32).at[made.order[0, 2 * 8]].set(np.nan))
    _, losses, _ = made._replace(images=images).run(4)
    assert [bool(np.isfinite(loss)) for loss in losses] == [True, True, True, False]


def a_run_of_local_steps() -> None:
    """Saves where the copies are equal, though it is asked to at each step, and goes on bit for bit."""
    with tempfile.TemporaryDirectory() as root:
        whole, parts = (Path(root, name) for name in ("whole", "parts"))
        train(LOCAL, whole, DEVICES, checkpoint_every=1)
        with pytest.raises(Interrupted):
            train(LOCAL, parts, DEVICES, stop=9, checkpoint_every=1)
        assert max(path.name for path in (parts / "checkpoints").iterdir()) == "step-00000006"
        with pytest.raises(ConfigError, match=r"parallel\.devices: it was 4 and cannot become 2"):
            train(LOCAL, parts, 2, checkpoint_every=1)
        train(LOCAL, parts, DEVICES, checkpoint_every=1)
        names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (whole, parts)]
        assert names[0] == names[1]
        assert set(names[0]) >= {"step-00000010", "step-00000012"}
        rows = [(folder / "metrics.jsonl").read_text().splitlines()[-1] for folder in (whole, parts)]
        assert rows[0] == rows[1]


def what_cannot_be() -> None:
    refused = {"train": {"probe_every": 4, "verify_every": 2}, "optimizer": {"name": "sgd", "dropback": {"keep": 0.5}}}
    with pytest.raises(ConfigError) as found:
        Workload.of(configured(LOCAL, DEVICES, **refused))
    keys = ("train.probe_every", "train.verify_every", "optimizer.dropback")
    for key, problem in zip(keys, found.value.problems, strict=True):
        assert problem.startswith(f"`{key}`")
    with pytest.raises(ConfigError, match=r"`schedule\.local`: it is for several devices"):
        Workload.of(configured(LOCAL, 1))
    rule = {"method": "zero", "replicas": {"stop": 1}}
    mixed = configured({"rules": [rule], **LOCAL}, DEVICES)
    with pytest.raises(ConfigError, match=r"`schedule\.local`: from step 0 on devices have copies of their own"):
        Workload.of(mixed)


CHECKS = {
    "copies of their own": copies_of_their_own,
    "what one device alone sees": what_one_device_alone_sees,
    "sent: by local steps": what_is_sent_by_local_steps,
    "what cannot be": what_cannot_be,
}
LONG = {
    "copies of their own, by methods that look at a batch": partial(copies_of_their_own, ("channels", "full", "zero")),
    "a run of local steps": a_run_of_local_steps,
}
ALL = Checks(__file__, DEVICES, CHECKS, LONG)


@pytest.mark.parametrize("name", ALL.parameters)
def test_on_four_devices(name):
    assert ALL.wrong(name) == ""


if __name__ == "__main__":
    ALL.main()
