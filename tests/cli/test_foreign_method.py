"""A method that nobody has seen before: one file, which approximates dgrad and draws numbers, through every command."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from approxtrain import models
from approxtrain.bench import kernel_clock, machine
from approxtrain.bench.kernel_cases import PRECISIONS
from approxtrain.bench.machine import Machine
from approxtrain_kernels import exact, methods
from approxtrain_kernels.geometry import conv_shape

pytestmark = pytest.mark.gate

FILE = '''"""`sampled`: each image counts with probability p, 1/p times, the same images for both gradients."""

from dataclasses import dataclass
from math import prod

from approxtrain_kernels.method import Method


@dataclass(frozen=True)
class Sampled(Method):
    p: float = 0.5

    name = "sampled"
    summary = "the exact gradients of images that are drawn with probability p, each counted 1/p times"
    needs = frozenset({"x", "dy", "key"})

    def __post_init__(self):
        if not 0 < self.p <= 1:
            raise ValueError(f"`p` (={self.p}) must be above 0 and at most 1: the share of the images.")

    def flops(self, shape):
        return self.p * shape.flops

    dgrad_flops = flops

    def bytes(self, shape, itemsize):
        return itemsize * (self.p * (prod(shape.x_shape) + prod(shape.y_shape)) + prod(shape.w_shape))

    def gradients(self, x, w, dy, *, shape, key):
        from approxtrain_kernels import dense

        chosen = dy * self.weights(shape, key).astype(dy.dtype)
        return dense.dgrad(chosen, w, shape), dense.wgrad(x, chosen, shape)

    def weights(self, shape, key):
        import jax

        return jax.random.bernoulli(key, self.p, (shape.batch, 1, 1, 1)) / self.p

    def oracle(self, x, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.wgrad(x, self.double(dy, shape, key), shape)

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        from approxtrain_kernels import exact

        return exact.dgrad(self.double(dy, shape, key), w, shape)

    def double(self, dy, shape, key):
        import numpy as np

        return dy * np.asarray(self.weights(shape, key), np.float64)
'''
SCHEDULE = 'schedule={ rules = [{ method = "sampled", params = { p = 0.75 } }] }'
EVERYWHERE = 'schedule={ rules = [{ method = "sampled" }, { method = "zero", layers = [1], order = 1 }] }'
SHAPE = conv_shape((4, 6, 6, 3), 5, (3, 3))


@pytest.fixture(scope="module", autouse=True)
def sampled(tmp_path_factory) -> Iterator[type]:
    """The class, for the length of this module one of the methods there are."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / "sampled.py").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
        methods.all_methods.cache_clear()
        yield methods.all_methods()["sampled"]
    methods.all_methods.cache_clear()
    del sys.modules["approxtrain_kernels.methods.sampled"], methods.sampled  # type: ignore[attr-defined]
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def run(call, images, two_layers, tmp_path_factory) -> Path:
    """Two epochs of five steps, both layers by the method, probed."""
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", lambda name: two_layers)
        options = ["train.epochs=2", "train.probe_every=5", "train.chunk=1", SCHEDULE]
        ended = call("train", "quickstart", *images, *options, "--out", folder)
    assert (ended.code, ended.err) == (0, "")
    return folder


def rows(folder: Path, kind: str) -> list[dict]:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == kind]


def arrays() -> list:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(size).astype(np.float32) for size in (SHAPE.x_shape, SHAPE.w_shape, SHAPE.y_shape)]


def test_it_is_listed_with_its_parameters_and_has_a_colour(call, sampled):
    ended = call("ls", "methods")
    assert ended.code == 0
    assert re.search(r"^sampled +p=0\.5 +the exact gradients of images that", ended.out, re.M)
    assert re.fullmatch("#[0-9a-f]{6}", sampled.colour)
    assert "sampled" in call("bench-kernel", "--list").out


def test_a_wrong_parameter_of_it_is_an_error_like_every_other(call):
    ended = call("schedule-show", "cnn2-approx", "schedule.method=sampled", "schedule.params={ p = 2 }")
    assert ended.code == 2
    assert "`p` (=2) must be above 0 and at most 1" in ended.err


def test_a_schedule_with_it_counts_the_dgrads_that_it_replaces(call, sampled, tmp_path):
    image = tmp_path / "cells.svg"
    ended = call("schedule-show", "figure3", EVERYWHERE, "--image", image)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^dgrad FLOPs replaced +\d+\.\d% of the step's, by sampled$", ended.out, re.M)
    assert sampled.colour in image.read_text().lower()

    shown = json.loads(call("schedule-show", "figure3", EVERYWHERE, "--json").out)
    assert shown["cells"][2] | {"letter": "S"} == shown["cells"][2]
    cost, layers = shown["run_cost"], models.get("cnn5").layers
    above = sum(layer.shape.flops for layer in layers[1:]) / sum(layer.shape.flops for layer in layers)
    assert cost["dgrad_replaced"] / cost["wgrad"] == pytest.approx(above)
    assert cost["spent"] == pytest.approx(0.5 * 2 * cost["dgrad_replaced"])  # half of each of two passes
    # by its prefix, that of the second layer is left out, and is not counted as replaced as well
    prefix = shown["frozen_prefix"]["run_cost"]
    assert prefix["dgrad_saved"] + prefix["dgrad_replaced"] == pytest.approx(cost["dgrad_replaced"])
    assert prefix["dgrad_saved"] > 0


def test_it_trains_and_its_probes_say_how_good_both_gradients_are(run):
    assert [row["epoch"] for row in rows(run, "train")] == [1, 2]
    first, second = rows(run, "probe")[:2]
    assert (first["layer"], second["layer"], second["method"]) == (1, 2, "sampled(p=0.75)")
    assert "dx_cosine" not in first  # nobody asks for the gradient of the images
    assert 0 < second["dx_cosine"] < 1
    assert second["dx_norm_ratio"] > 1  # fewer images, each of them weighs more
    assert 0 < second["cosine"] < 1


def test_a_run_with_it_that_goes_on_ends_as_one_that_never_stopped(call, run, small, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints/step-00000010")
    ended = call("train", "--resume", copy, "train.epochs=2")
    assert (ended.code, ended.err) == (0, "")
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_a_report_takes_a_run_with_it(call, run, small, tmp_path):
    ended = call("report", run, "--out", tmp_path / "report")
    assert (ended.code, ended.err) == (0, "")
    assert "sampled" in (tmp_path / "report/report.html").read_text()


def test_it_is_checked_against_its_own_draw_and_timed(call, monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_clock, "LOOP_SECONDS", 1e-3)
    limits = Machine(1e10, dict.fromkeys(PRECISIONS, 1e11), 1 << 12, "assumed", 1e-6)
    monkeypatch.setattr(machine, "measure", lambda precisions: limits)
    options = ["--shapes", "8,4,4,3,5,3,1", "--rounds", "3", "--json", tmp_path / "bench.json"]
    ended = call("bench-kernel", "--method", "sampled", "--param", "p=0.5", *options)
    assert (ended.code, ended.err) == (0, "")
    assert "approximates the gradient of the input as well" in ended.out
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert (row["method"], row["failed"]) == ("sampled", [])
    assert {"method", "vjp method"} <= row["milliseconds"].keys()
    assert 0 < row["relative_error"]["method"] < 1e-5
    assert 0 < row["relative_error"]["vjp method"] < 1e-5


def test_a_step_with_it_is_timed(call, small, images, tmp_path):
    written = tmp_path / "step.json"
    ended = call("bench-step", "quickstart", *images, "--rounds", "3", "--method", "sampled", "--json", written)
    assert (ended.code, ended.err) == (0, "")
    assert "schedule3 with sampled" in json.loads(written.read_text())["contenders"]


def test_both_gradients_are_right_on_the_mean_over_keys_and_for_each_key_by_the_oracle(sampled):
    import jax

    from approxtrain_kernels import conv, weight_gradient

    method = sampled()
    x, w, dy = arrays()

    @jax.jit
    def gradients(key):
        return jax.vjp(lambda x, w: conv(x, w, method=method, key=key), x, w)[1](dy)

    key = jax.random.key(1)
    dx, dw = gradients(key)
    np.testing.assert_allclose(dx, method.dgrad_oracle(x, w, dy, SHAPE, key), atol=1e-4)
    np.testing.assert_allclose(dw, method.oracle(x, dy, SHAPE, key), atol=1e-4)
    np.testing.assert_allclose(weight_gradient(x, dy, kernel_size=(3, 3), method="sampled", key=key), dw, atol=1e-5)

    every = jax.lax.map(gradients, jax.random.split(jax.random.key(0), 4096))
    for draws, truth in zip(every, (exact.dgrad(dy, w, SHAPE), exact.wgrad(x, dy, SHAPE)), strict=True):
        deviation = np.abs(np.asarray(draws).mean(0) - truth) / (np.asarray(draws).std(0) / 64 + 1e-6)
        assert deviation.max() < 6


def test_a_compiled_program_holds_only_what_is_read(sampled):
    import jax

    from approxtrain_kernels import conv

    method = sampled()
    x, w, dy = arrays()

    def compiled(of: str) -> str:
        def gradients(x, w, dy, key):
            dx, dw = jax.vjp(lambda x, w: conv(x, w, method=method, key=key), x, w)[1](dy)
            return {"dx": dx, "dw": dw, "both": (dx, dw)}[of]

        return jax.jit(gradients).lower(x, w, dy, jax.random.key(0)).compile().as_text()

    counts = {of: len(re.findall(r" convolution\(", compiled(of))) for of in ("dx", "dw", "both")}
    assert counts == {"dx": 1, "dw": 1, "both": 2}
