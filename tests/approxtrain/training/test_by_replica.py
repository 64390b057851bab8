"""Schedules whose replicas differ, on four virtual devices, against each replica by itself.

This file is a program too (`tests/devices.py`).
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.errors import ConfigError
from approxtrain.training.contributions import mean_gradient
from approxtrain.training.workload import Workload
from approxtrain_kernels.methods import make
from tests.devices import ROOT, Checks
from tests.replicas import BATCH, Bench, alone, assert_close, bench, collectives, configured

DEVICES = 4
LAYERS = ["first", "second", "third"]
ALONE: dict[str, Any] = {"train": {"augment": False}, "parallel": {"batch_norm": "replica"}}
"""What one replica computes then depends on no other one: the oracle knows the images of one alone."""
PERIOD = 2


def rules_of(mask: np.ndarray) -> list[dict[str, Any]]:
    """A rule for each cell of a mask of names, [replica, layer, step]."""
    return [
        {
            "method": str(name),
            "layers": [layer + 1],
            "steps": {"start": step, "every": mask.shape[2]},
            "replicas": {"start": replica, "stop": replica + 1},
        }
        for (replica, layer, step), name in np.ndenumerate(mask)
    ]


def gradient_alone(replica: int, column: tuple[str, ...], step: int) -> dict[str, np.ndarray]:
    """Of one device, with the images that the replica has of the batch."""
    size, made = BATCH // DEVICES, alone(column, DEVICES)
    order = np.asarray(made.order)[:, step * BATCH + replica * size :][:, :size]
    return made._replace(order=jnp.asarray(order)).gradient()[0]


def mean_of(gradients: list[dict[str, np.ndarray]], mask: np.ndarray, *, over_all: bool) -> dict[str, np.ndarray]:
    """What is asked for: of a kernel over those replicas whose method gives a gradient, of the rest over all."""
    mean = {}
    for name in gradients[0]:
        of_each = [gradient[name].astype(np.float64) for gradient in gradients]
        count = DEVICES
        if name.endswith("/kernel") and (path := name.split("/")[0]) in LAYERS and not over_all:
            count = sum(make(str(method)).gives_gradient for method in mask[:, LAYERS.index(path)]) or 1
        mean[name] = sum(of_each) / count
    return mean


def a_random_mask(seed: int, mean: str = "contributors") -> None:
    methods = ["full", "zero", "approx", "coarse", "channels"]
    mask = np.random.default_rng(seed).choice(methods, (DEVICES, 3, PERIOD))
    made = bench({"rules": rules_of(mask)}, DEVICES, **{**ALONE, "parallel": {**ALONE["parallel"], "mean": mean}})
    for step in range(PERIOD):
        ours, _ = made.gradient_at(step)
        of_each = [gradient_alone(replica, tuple(mask[replica, :, step]), step) for replica in range(DEVICES)]
        assert_close(ours, mean_of(of_each, mask[:, :, step], over_all=mean == "paper"), 1e-5)


def rotated(**more: Any) -> Bench:
    rule = {"method": "zero", "layers": [2, 3], "replicas": {"stop": 2, "rotate": 1}}
    return bench({"rules": [rule]}, DEVICES, **more)


def a_choice_that_rotates() -> None:
    """One program for all steps, each with its own replicas."""
    made = rotated(**ALONE)
    for step in (0, 1, 3):
        mask = np.full((DEVICES, 3), "full")
        for replica in (step, step + 1):
            mask[replica % DEVICES, 1:] = "zero"
        of_each = [gradient_alone(replica, tuple(mask[replica]), step) for replica in range(DEVICES)]
        assert_close(made.gradient_at(step)[0], mean_of(of_each, mask, over_all=False), 1e-5)
    assert len(made.dispatch.compiled) == 1
    several, single = rotated(train={"augment": False, "chunk": 3}, parallel=ALONE["parallel"]).run(6), made.run(6)
    for one, other in zip(jax.tree.leaves(several[0]), jax.tree.leaves(single[0]), strict=True):
        np.testing.assert_array_equal(one, other)


def half_of_the_replicas_are_the_whole_in_the_mean() -> None:
    """Over shuffles of a batch, by projections on directions that were drawn before; divided by all replicas as in the
    paper it is half of it."""
    full, _ = bench({"name": "full"}, DEVICES, train={"augment": False}).gradient()
    rule = {"method": "zero", "layers": [2], "replicas": {"stop": 2}}
    rng, found = np.random.default_rng(1), {}
    directions = rng.normal(size=(8, full["second/kernel"].size))
    exact = directions @ full["second/kernel"].ravel()
    for mean in ("contributors", "paper"):
        made, samples = bench({"rules": [rule]}, DEVICES, train={"augment": False}, parallel={"mean": mean}), []
        for _ in range(60):
            order = np.array(made.order)
            order[:, :BATCH] = rng.permuted(order[:, :BATCH], axis=1)
            shuffled = made._replace(order=made.dispatch.replicas.place(jnp.asarray(order)))
            samples.append(directions @ shuffled.gradient()[0]["second/kernel"].ravel())
        error = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
        found[mean] = np.abs(np.mean(samples, axis=0) - exact) / error
    assert found["contributors"].max() < 3
    assert np.median(found["paper"]) > 3


def what_is_random_on_some() -> None:
    """One key on all replicas: the mean of what all of them draw, and of what the others compute."""
    rules = [{"method": "random", "layers": [2], "replicas": {"stop": 1}}]
    more = {"train": {"augment": False}}
    mixed, _ = bench({"rules": rules}, DEVICES, **more).gradient()
    left, _ = bench({"rules": [{**rules[0], "method": "zero"}]}, DEVICES, **more).gradient()
    drawn, _ = bench({"rules": [{"method": "random", "layers": [2]}]}, DEVICES, **more).gradient()
    expected = (drawn["second/kernel"] + 3 * left["second/kernel"]) / 4
    np.testing.assert_allclose(mixed["second/kernel"], expected, atol=1e-5 * np.abs(expected).max())


def what_is_sent(methods: list[list[str]], left_out: set[str]) -> None:
    """Of a mask [replica][layer]: nothing where no replica has a gradient; one all-reduce of each, and no collective in
    a conditional, though `channels` asks all of them elsewhere."""
    rules = rules_of(np.array(methods)[:, :, None])
    made = bench({"rules": rules}, DEVICES)
    of_parameters = {path.split("/")[0] + "/" + path.split("/")[1] for path in made.gradient()[0]}
    assert left_out < of_parameters
    sizes = {name: leaf.size for name, leaf in made.gradient()[0].items()}
    backwards = 3 - ("first/kernel" in left_out)  # the first norm's input asks for no gradient then
    sent = sum(size for name, size in sizes.items() if name not in left_out) + (3 + backwards) * 2 * 8 + 2
    text = made.program
    assert collectives(text) == {"all-reduce": 4 * sent}
    branches = inside_of_conditionals(text)
    assert branches, "no conditional, and so nothing was looked at"
    assert not [name for name, body in branches.items() if re.search(r"all-reduce|all-gather|collective", body)]


def inside_of_conditionals(text: str) -> dict[str, str]:
    """The computations of a compiled program that some conditional calls, and what these call."""
    computations = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)^\}", text, re.M | re.S))
    named = re.findall(r"(?:branch_computations=\{(.*?)\}|(?:true|false)_computation=(%?[\w.\-]+))", text)
    waiting = [name.strip(" %") for both in named for part in both if part for name in part.split(",")]
    found: dict[str, str] = {}
    while waiting:
        if (name := waiting.pop()) not in found:
            found[name] = computations[name]
            waiting += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", found[name])
    return found


def gradients_that_are_rounded() -> None:
    """To the eight bits of bfloat16, once before they are added and once after."""
    more: dict[str, Any] = {"train": {"augment": False}}
    exact, _ = bench({"name": "full"}, DEVICES, **more).gradient()
    rounded, _ = bench({"name": "full"}, DEVICES, **more, parallel={"gradients": "bfloat16"}).gradient()
    assert_close(rounded, exact, 0.01)
    for name, ours in rounded.items():
        assert np.abs(ours - exact[name]).max() > 1e-4 * np.abs(exact[name]).max(), name


def the_example_for_ones_own_loop() -> None:
    """Of the docs; its first gradients are ours of four devices by themselves, in the mean that is asked for."""
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/parallel.md").read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(text, names)
    assert [*map(len, (names["schedule"].columns, names["steps"]))] == [1, 1]
    assert np.isfinite(float(names["loss"]))
    for leaf in jax.tree.leaves((names["params"], names["opt_state"])):
        copies = [np.asarray(part.data) for part in leaf.addressable_shards]
        assert len(copies) == DEVICES
        assert all(np.array_equal(copies[0], copy) for copy in copies[1:])
    gradient = {"conv2": {"kernel": jnp.arange(float(DEVICES))[:, None]}, "conv1": {"kernel": jnp.ones((DEVICES, 1))}}
    mesh, spec = names["mesh"], names["PartitionSpec"]("replica")
    mean = partial(mean_gradient, names["layers"], names["schedule"].column(0), axis="replica")
    found = jax.shard_map(mean, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)(gradient)
    assert {float(each[0]) for each in found["conv2"]["kernel"]} == {(1 + 2 + 3) / 3}  # the first has none, which is 0
    assert {float(each[0]) for each in found["conv1"]["kernel"]} == {1.0}


def what_cannot_be() -> None:
    rule = {"method": "zero", "replicas": {"stop": 1}}
    with pytest.raises(ConfigError, match=r"`train\.probe_every` \(=4\): a probe looks at one device"):
        Workload.of(configured({"rules": [rule]}, DEVICES, train={"probe_every": 4}))


CHECKS = {
    "a random mask": partial(a_random_mask, 0),
    "a choice that rotates": a_choice_that_rotates,
    "sent: zero on all": partial(
        what_is_sent, [["zero", "full", "zero"], ["skip", "zero", "full"]] * 2, {"first/kernel"}
    ),
    "sent: channels on some": partial(what_is_sent, [["full", "channels", "full"], ["full"] * 3] * 2, set()),
    "gradients that are rounded": gradients_that_are_rounded,
    "what cannot be": what_cannot_be,
}
LONG = {
    "a random mask, over all": partial(a_random_mask, 0, "paper"),
    "half of the replicas": half_of_the_replicas_are_the_whole_in_the_mean,
    "random on some": what_is_random_on_some,
    "sent: zero on some": partial(what_is_sent, [["full"] * 3, ["full", "zero", "full"]] * 2, set()),
    "the example for one's own loop": the_example_for_ones_own_loop,
}
ALL = Checks(__file__, DEVICES, CHECKS, LONG)


@pytest.mark.parametrize("name", ALL.parameters)
def test_on_four_devices(name):
    assert ALL.wrong(name) == ""


if __name__ == "__main__":
    ALL.main()
