"""Training on eight virtual devices is training on one, and sends what has to be sent.

This file is a program too (`tests/devices.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.errors import ConfigError, VerificationError
from approxtrain.run.folder import RunFolder
from approxtrain.training.loop import Run
from approxtrain.training.moved import by_path
from approxtrain.training.parallel import AXIS, Replicas
from approxtrain_kernels.methods import all_methods
from approxtrain_kernels.replicas import own_key, replicated
from tests.devices import Checks
from tests.replicas import (
    ADAM,
    BATCH,
    Interrupted,
    Stop,
    assert_close,
    bench,
    collectives,
    configured,
    losses_of,
    train,
)

DEVICES = 8
FULL = {"name": "full"}
METHODS = [{"method": name} for name in sorted(all_methods())] + [{"method": "approx", "params": {"scale": "paper"}}]
COLUMNS = [
    [{**rule, "layers": [layer]} for layer, rule in enumerate(METHODS[first : first + 3], start=1)]
    for first in range(0, len(METHODS), 3)
]
"""All methods, three at a time: one in each layer."""
TURNS = {"grid": [["full", "approx", "random"], ["zero", "mvue", "full"], ["channels", "full", "coarse"]]}


def first_gradients(rules: list[dict[str, Any]], devices: int = DEVICES, **options: Any) -> None:
    (ours, state), (right, alone) = (bench({"rules": rules}, n, **options).gradient() for n in (devices, 1))
    assert_close(ours, right, 1e-5)
    assert_close(by_path(state.stats), by_path(alone.stats), 1e-5)
    assert_close({"loss": state.loss_sum}, {"loss": alone.loss_sum}, 1e-5)
    assert float(state.correct_sum[0]) == float(alone.correct_sum[0])


def ten_steps() -> None:
    (ours, losses, correct), (right, alone, correct_alone) = (bench(TURNS, n, **ADAM).run(10) for n in (DEVICES, 1))
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert correct == correct_alone
    assert_close(by_path(ours.params), by_path(right.params), 1e-4)


def several_steps_a_call() -> None:
    single, several = (bench(FULL, DEVICES, train={"chunk": chunk}, **ADAM).run(6) for chunk in (1, 3))
    assert single[1] == several[1]
    for one, other in zip(jax.tree.leaves(single[0]), jax.tree.leaves(several[0]), strict=True):
        np.testing.assert_array_equal(one, other)


def what_is_sent(column: list[str], batch_norm: str, *, frozen_prefix: bool = False) -> None:
    """Gradients that depend on images, loss and number of right images; of each norm of 8 channels two sums forward and
    two backward, or else its two averages."""
    schedule = {"grid": [[method] for method in column], "frozen_prefix": frozen_prefix}
    made = bench(schedule, DEVICES, parallel={"batch_norm": batch_norm})
    text, parameters = made.program, by_path(made.state.params)
    layers = ["first", "second", "third"]
    left_out = {f"{path}/kernel" for path, method in zip(layers, column, strict=True) if method in ("zero", "random")}
    if frozen_prefix:
        left_out |= {"norm1/scale", "norm1/bias"}
    backwards = 3 - ("first/kernel" in left_out)  # the first norm's input asks for no gradient then
    sent = sum(leaf.size for name, leaf in parameters.items() if name not in left_out)
    of_norms = 3 * 2 * 8 + backwards * 2 * 8 if batch_norm == "synchronised" else 3 * 2 * 8
    assert collectives(text) == {"all-reduce": 4 * (sent + of_norms + 2)}
    assert "conditional(" not in text


def norms_of_each_device() -> None:
    """The mean of the gradients that a device by itself has of each part."""
    made = bench(FULL, DEVICES, train={"augment": False}, parallel={"batch_norm": "replica"})
    ours, state = made.gradient()
    parts, stats = [], []
    for part in range(DEVICES):
        size = BATCH // DEVICES
        alone = bench(FULL, 1, train={"augment": False, "batch_size": size})
        first = alone._replace(order=jnp.asarray(np.asarray(made.order)[:, part * size :]))
        gradient, after = first.gradient()
        parts.append(gradient)
        stats.append(by_path(after.stats))
    mean = partial(jax.tree.map, lambda *leaves: np.mean([np.asarray(leaf) for leaf in leaves], 0))
    assert_close(ours, mean(*parts), 1e-5)
    assert_close(by_path(state.stats), mean(*stats), 1e-5)
    synchronised, _ = bench(FULL, DEVICES, train={"augment": False}).gradient()
    assert np.abs(synchronised["first/kernel"] - ours["first/kernel"]).max() > 0.1 * np.abs(ours["first/kernel"]).max()


def statistics_of_ones_own() -> None:
    made = bench(FULL, DEVICES, network="OwnStatistics")
    (told,) = made.dispatch.replicas.not_synchronised(made.dispatch.task)
    assert "`calls` and 1 more are of each device's own images" in told
    _, state = made.gradient()
    _, alone = bench(FULL, 1, network="OwnStatistics").gradient()
    assert_close(by_path(state.stats), by_path(alone.stats), 1e-5)
    for network in ("Small", "StockNorms"):
        made = bench(FULL, DEVICES, network=network)
        assert list(made.dispatch.replicas.not_synchronised(made.dispatch.task)) == []


def each_device_draws_its_own_dropout() -> None:
    """All images are one. With masks alike on all devices their mean would be what one device makes of its part."""
    gradients = []
    for devices in (DEVICES, 1):
        train = {"augment": False, "batch_size": BATCH * devices // DEVICES}
        made = bench(FULL, devices, network="OwnStatistics", train=train)
        same = made.dispatch.replicas.place(jnp.zeros_like(np.asarray(made.order)))
        gradients.append(made._replace(order=same).gradient()[0]["logits/kernel"])
    ours, alone = gradients
    assert np.abs(ours - alone).max() > 0.01 * np.abs(alone).max()

    def masks(key: jax.Array) -> jax.Array:
        with replicated(AXIS, DEVICES):
            return jax.random.bits(own_key(key), (1,))

    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((DEVICES,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    drawn = jax.shard_map(masks, mesh=mesh, in_specs=spec(), out_specs=spec(AXIS), check_vma=False)(jax.random.key(0))
    assert len(set(np.asarray(drawn).tolist())) == DEVICES


def a_block_that_is_left_out() -> None:
    """The same as on one device, and nothing of it is sent."""
    schedule = {"bypass": [{"path": "blocks/0", "to": 1}]}
    made, alone = (bench(schedule, devices, network="Residual") for devices in (2, 1))
    (ours, _), (right, _) = made.gradient(), alone.gradient()
    assert_close(ours, right, 1e-5)
    parameters = by_path(made.state.params)
    sent = sum(leaf.size for name, leaf in parameters.items() if not name.startswith("blocks/0/"))
    of_norms = 4 * (8 + 16 + 16)  # of the three that are left two sums forward and two backward
    assert collectives(made.program) == {"all-reduce": 4 * (sent + of_norms + 2)}


def some_of_the_images() -> None:
    """Each device takes those of its part that one alone takes of the whole batch."""
    (ours, state), (right, alone) = (
        bench({"image_shares": [{"share": 0.25}]}, devices).gradient() for devices in (DEVICES, 1)
    )
    assert_close(ours, right, 1e-5)
    assert_close({"loss": state.loss_sum}, {"loss": alone.loss_sum}, 1e-5)
    assert float(state.correct_sum[0]) == float(alone.correct_sum[0])


def copies_that_differ() -> None:
    made = bench(FULL, DEVICES)
    kernel = made.state.params["second"]["kernel"]
    made.dispatch.replicas.refuse_unless_equal(made.state)

    def next_number(flat: np.ndarray) -> None:
        flat[0] = np.nextafter(flat[0], np.float32(9))

    def two_signs(flat: np.ndarray) -> None:
        flat[[3, 7]] *= -1

    def two_places(flat: np.ndarray) -> None:
        flat[[3, 7]] = flat[[7, 3]]

    for spoil in (next_number, two_signs, two_places):
        copies = [np.array(kernel) for _ in range(DEVICES)]
        spoil(copies[5].reshape(-1))
        on_devices = [jax.device_put(copy, device) for copy, device in zip(copies, jax.devices(), strict=True)]
        spoilt = jax.make_array_from_single_device_arrays(kernel.shape, kernel.sharding, on_devices)
        state = made.state._replace(params={**made.state.params, "second": {"kernel": spoilt}})
        with pytest.raises(VerificationError, match="different numbers in `params/second/kernel`, of which"):
            made.dispatch.replicas.refuse_unless_equal(state)


def a_run_and_its_resumption_on_other_numbers_of_devices() -> None:
    with tempfile.TemporaryDirectory() as root:
        whole = {n: train(TURNS, Path(root, str(n)), n, probe_every=4, verify_every=5) for n in (1, DEVICES)}
        assert [summary["devices"] for summary in whole.values()] == [1, DEVICES]
        mixed = Path(root, "mixed")
        for devices, stop in ((DEVICES, 4), (2, 8)):
            with pytest.raises(Interrupted):
                train(TURNS, mixed, devices, stop=stop, probe_every=4, checkpoint_every=3, verify_every=5)
        last = train(TURNS, mixed, 1, probe_every=4, checkpoint_every=3, verify_every=5)
        for summary in (whole[DEVICES], last):
            assert summary["steps"] == whole[1]["steps"] == 12
            np.testing.assert_allclose(summary["final_train_loss"], whole[1]["final_train_loss"], rtol=1e-3)


def streamed(*, mixed: bool = True) -> None:
    """Each device is given its own part of a batch; validated and probed on the first. All losses are those of one;
    `mixed`: and those of a run that goes on on other numbers of devices."""
    data = {"name": "shapes", "limit": 200, "image_size": 8, "stream": True, "workers": 0}

    def losses(folder: Path, devices: int, stop: int = 0) -> dict[int, float]:
        config = configured(TURNS, devices, data=data, train={"checkpoint_every": 2, "probe_every": 4}, **ADAM)
        listener = Stop(stop)
        opened = RunFolder.open(folder) if folder.exists() else RunFolder.create(folder)
        with opened, jax.transfer_guard_device_to_device("disallow"):
            run = Run(config, opened, listener)
            with contextlib.suppress(Interrupted):
                run.train()
        kinds = {kind for program in run.dispatch.compiled.values() for kind in collectives(program.as_text())}
        assert kinds == ({"all-reduce"} if devices > 1 else set())
        return listener.losses

    with tempfile.TemporaryDirectory() as root:
        one, eight = (losses(Path(root, str(devices)), devices) for devices in (1, DEVICES))
        others = {"8": eight}
        if mixed:
            found = losses(Path(root, "mixed"), DEVICES, stop=4) | losses(Path(root, "mixed"), 2, stop=9)
            others["mixed"] = found | losses(Path(root, "mixed"), 4)
        validation = [losses_of(Path(root, name), "validation") for name in ("1", *others)]
    assert list(one) == list(range(1, 13))
    for other in others.values():
        np.testing.assert_allclose([other[step] for step in one], list(one.values()), rtol=1e-5)
    for rows in validation:
        assert rows.keys() == validation[0].keys()
        np.testing.assert_allclose([rows[step] for step in validation[0]], list(validation[0].values()), rtol=1e-4)


def by_pallas_interpreted() -> None:
    """The kernels of a GPU, against their definition."""
    gradients = []
    for devices, by in ((DEVICES, "pallas-interpret"), (1, "reference")):
        made = bench({"rules": [{"method": "approx"}]}, devices)
        columns = [
            tuple(replace(method, implementation=by) for method in each) for each in made.dispatch.schedule.columns
        ]
        made.dispatch.schedule.__dict__["columns"] = tuple(columns)  # worked out once
        gradients.append(made.gradient()[0])
    assert_close(*gradients, 1e-5)


def by_code_of_our_own() -> None:
    os.environ["APPROXTRAIN_NATIVE"] = "1"
    try:
        first_gradients([{"method": "approx"}], 2)
    finally:
        os.environ["APPROXTRAIN_NATIVE"] = "0"


def too_many() -> None:
    with pytest.raises(ConfigError, match=r"there are 8 devices here, of the kind cpu\. A CPU is 16 devices, which"):
        Replicas.of(configured({"name": "full"}, 16))


CHECKS = {
    **{f"first gradients: {json.dumps(rules)}": partial(first_gradients, rules) for rules in COLUMNS},
    "first gradients: norms of Flax": partial(first_gradients, [{"method": "full"}], network="StockNorms"),
    "first gradients: by code of our own": by_code_of_our_own,
    "first gradients: by Pallas, interpreted": by_pallas_interpreted,
    "ten steps": ten_steps,
    "several steps a call": several_steps_a_call,
    "sent: all": partial(what_is_sent, ["full", "approx", "coarse"], "synchronised"),
    "sent: no kernel under zero or random": partial(what_is_sent, ["zero", "full", "random"], "synchronised"),
    "sent: nothing of a frozen prefix": partial(
        what_is_sent, ["zero"] + ["full"] * 2, "synchronised", frozen_prefix=True
    ),
    "sent: norms of each device": partial(what_is_sent, ["full", "approx", "full"], "replica"),
    "norms of each device": norms_of_each_device,
    "statistics of one's own": statistics_of_ones_own,
    "a block that is left out": a_block_that_is_left_out,
    "some of the images": some_of_the_images,
    "dropout": each_device_draws_its_own_dropout,
    "copies that differ": copies_that_differ,
    "streamed": partial(streamed, mixed=False),
    "too many devices": too_many,
}
LONG = {
    "streamed, on other numbers of devices": streamed,
    "runs": a_run_and_its_resumption_on_other_numbers_of_devices,
    **{f"first gradients: {json.dumps(rule)}": partial(first_gradients, [rule]) for rule in METHODS},
    "first gradients: four devices": partial(first_gradients, [{"method": "random"}], 4),
}
ALL = Checks(__file__, DEVICES, CHECKS, LONG)


@pytest.mark.parametrize("name", ALL.parameters)
def test_on_eight_devices(name):
    assert ALL.wrong(name) == ""


if __name__ == "__main__":
    ALL.main()
