"""`bench-kernel` measures what is right, and only that: planted errors are found, planted jitter buys no verdict."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.bench import exactness, kernel_bench, kernel_clock, kernel_contenders, torch_peer
from approxtrain.bench.exactness import FACTORS
from approxtrain.bench.kernel_bench import KernelBench
from approxtrain.bench.kernel_cases import PARTS, PRECISIONS, Case
from approxtrain.bench.kernel_clock import Cupti, Loop
from approxtrain.bench.machine import Machine
from approxtrain_kernels import conv_shape, exact
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.methods.random import Random
from approxtrain_kernels.methods.zero import Zero

SHAPE = conv_shape((2, 4, 4, 3), 5, (3, 3))
UNEVEN = conv_shape((2, 6, 5, 3), 4, (3, 3), (2, 2))
"""SAME pads one side more than the other."""
MACHINE = Machine(1e10, dict.fromkeys(PRECISIONS, 1e11), 1 << 12, "assumed", 1e-5)


def case(method=Approx(), dtype="float32", part="wgrad", shape=SHAPE) -> Case:
    return Case(shape, PRECISIONS[dtype], part, method)


def row_of(one: Case, rounds: int = 3, make_clock=Loop) -> dict:
    return KernelBench(MACHINE, make_clock, rounds).row(one, seed=0)


@pytest.fixture(autouse=True)
def _short_samples(monkeypatch):
    """What a sample holds is asked here, not what it says."""
    monkeypatch.setattr(kernel_clock, "LOOP_SECONDS", 1e-4)


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(kernel_bench, "take_turns", lambda *_: pytest.fail("it was timed"))


@pytest.mark.parametrize(
    ("dtype", "method"),
    [("float32", Zero()), ("float32", Random()), ("bfloat16", Approx(k=2)), ("float16", Approx())],
    ids=["zero", "random", "bfloat16", "float16"],
)
def test_a_row_that_is_right_has_every_sample_of_both_caches(dtype, method):
    row = row_of(case(method, dtype))
    names = {"ours", "xla", "method", "vjp full", "vjp method"}
    assert row["failed"] == []
    assert names <= row["relative_error"].keys()
    assert row["shape"] == dataclasses.asdict(SHAPE)
    for times, cache in ((row, "cold"), (row["also"]["hot"], "hot")):
        assert times["cache"] == cache
        assert names | {"dense"} <= times["milliseconds"].keys()
        assert {len(samples) for samples in times["milliseconds"].values()} == {3}
        assert times["milliseconds"]["dense"] == times["milliseconds"][times["base_is"]]
        assert times["ratio"].keys() == {"value", "low", "high", "spread", "rounds", "verdict"}
        assert times["ratios"]["vjp method/vjp full"].keys() == times["ratio"].keys()
        saved = times["vjp_saves_ms"]
        assert saved.keys() == {"value", "low", "high"}
        full, method = (np.median(times["milliseconds"][name]) for name in ("vjp full", "vjp method"))
        assert saved["value"] == pytest.approx(full - method)
        assert saved["low"] <= saved["value"] <= saved["high"]
    assert (row["sets"], row["also"]["hot"]["sets"]) == (1 + -(-2 * MACHINE.cache // row["set_bytes"]), 1)
    assert row["sets_evict_each_other"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shape", [SHAPE, UNEVEN, conv_shape((3, 2, 2, 4), 3, (3, 3))], ids=["3×3", "uneven", "2×2"])
def test_the_exact_forms_of_every_part_are_right_by_whoever_computes_them(part, shape):
    row = row_of(case(Full(), part=part, shape=shape))
    assert row["relative_error"].keys() == {"ours", "xla", *(torch_peer.FORMATS if torch_peer.takes_part() else ())}
    assert max(row["relative_error"].values()) < 1e-5
    assert row["base_is"] != "ours"
    assert "dense" not in row["milliseconds"]


class NotFinite(Approx):
    """`approx` with one NaN in it."""

    def estimate(self, x, dy, **options):
        return super().estimate(x, dy, **options).at[0, 0, 0, 0].set(float("nan"))


class Slightly(Approx):
    """`approx`, 2e-5 too large: twice the tolerance."""

    def estimate(self, x, dy, **options):
        return super().estimate(x, dy, **options) * (1 + 2e-5)


class WrongIndex(Approx):
    """`approx` that fetches its patches one position beside those of the largest entries."""

    def estimate(self, x, dy, **options):
        return super().estimate(jnp.roll(x, 1, axis=2), dy, **options)


class OneWrongPatch(Approx):
    """`approx` that is off by one position for a single image."""

    def estimate(self, x, dy, **options):
        return super().estimate(x.at[0].set(jnp.roll(x[0], 1, axis=1)), dy, **options)


class HalfDx(Approx):
    """`approx` that gives half of dx, and says so."""

    def gradients(self, kept, w, dy, **options):
        dx, dw = super().gradients(kept, w, dy, **options)
        return dx / 2, dw

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        return exact.dgrad(dy, w, shape) / 2


class HalfDxBesideItsOracle(HalfDx):
    """It says that dx is what the exact one is."""

    def dgrad_oracle(self, x, w, dy, shape, key=None):
        return exact.dgrad(dy, w, shape)


class HalfDxCalledExact(HalfDx):
    """It says that dx is exact."""

    exact_dgrad = True


@dataclasses.dataclass(frozen=True)
class Remembers(Approx):
    """`approx` in memory that is used again: right where it writes, and what was there before where it does not."""

    written: str = "first"

    def estimate(self, x, dy, *, shape, **options):
        memory: list[np.ndarray] = []

        def kernel(right: np.ndarray) -> np.ndarray:
            right = np.array(right)
            if not memory:
                memory.append(np.zeros_like(right))  # new memory often holds zeros
            out = memory[0]
            if self.written == "added to":
                out += right
            elif self.written == "all but one" and out.any():
                out.flat[1:] = right.flat[1:]
            elif not out.any():
                out[...] = right
            return out.copy()

        right = super().estimate(x, dy, shape=shape, **options)
        return jax.pure_callback(kernel, jax.ShapeDtypeStruct(shape.w_shape, right.dtype), right)


@pytest.mark.parametrize(
    "method",
    [NotFinite(), Slightly(), WrongIndex(), OneWrongPatch()],
    ids=["NaN", "twice the tolerance", "wrong index", "wrong index in one image"],
)
def test_a_method_that_is_wrong_is_not_timed(method, untimed):
    row = row_of(case(method))
    assert "method" in row["failed"]
    assert (row["milliseconds"], row["ratio"]) == ({}, None)


def test_the_input_gradient_of_a_method_that_approximates_it_is_held_against_its_own_oracle():
    row = row_of(case(HalfDx()))
    assert (row["failed"], row["exact_dgrad"]) == ([], False)
    assert 0 < row["relative_error"]["vjp method"] < 1e-5


@pytest.mark.parametrize("method", [HalfDxBesideItsOracle(), HalfDxCalledExact()], ids=["approximated", "exact"])
def test_a_method_with_a_wrong_input_gradient_is_not_timed(method, untimed):
    row = row_of(case(method))
    assert (row["failed"], row["milliseconds"]) == (["vjp method"], {})


@pytest.mark.parametrize("written", ["first", "all but one", "added to"])
def test_memory_that_is_not_written_is_found_even_if_a_right_result_was_there_before(written, untimed):
    assert "method" in row_of(case(Remembers(written=written)))["failed"]


def test_no_two_contenders_are_checked_on_the_same_numbers():
    assert {"ours", "xla", "method", "vjp full", "vjp method", *torch_peer.FORMATS} == FACTORS.keys()
    assert len(set(FACTORS.values())) == len(FACTORS)
    gate = exactness.Gate(case(), 1)
    fresh = [np.asarray(gate._fresh(name)["dy"]) for name in FACTORS]
    assert not any(np.array_equal(a, b) for at, a in enumerate(fresh) for b in fresh[:at])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_of_the_size_of_each_result_is_filled_with_nan_before_a_check(dtype, monkeypatch):
    filled = []

    def full(*of):
        filled.append(jnp.broadcast_to(jnp.array(of[1], of[2]), of[0]))
        return filled[-1]

    monkeypatch.setattr(exactness.jnp, "full", full)
    exactness._poison(case(dtype=dtype))
    sizes = (SHAPE.w_shape, SHAPE.x_shape, SHAPE.y_shape)
    assert {(array.shape, array.dtype.name) for array in filled} == {(size, dtype) for size in sizes}
    assert all(jnp.isnan(array).all() for array in filled)


@pytest.mark.parametrize("name", ["ours", "xla"])
def test_a_wrong_exact_form_is_never_a_base(name, monkeypatch):
    wrong = {"ours": "_ours", "xla": "_stock"}[name]
    right = getattr(kernel_contenders, wrong)
    monkeypatch.setattr(kernel_contenders, wrong, lambda *of: lambda a, b: right(*of)(a, b) * 1.001)
    row = row_of(case())
    assert row["failed"] == [name]
    if name == "ours":
        assert row["milliseconds"] == {}
    else:
        assert "xla" not in row["milliseconds"]
        assert row["base_is"] == "ours"


def test_what_goes_wrong_while_it_is_timed_takes_the_times_away(monkeypatch):
    spoilt = []
    compiled = kernel_contenders.compiled

    def spoiling(name, *of):
        contender = compiled(name, *of)
        if name != "method":
            return contender
        return dataclasses.replace(contender, run=lambda *a: contender.run(*a) * (2 if spoilt else 1))

    def take_turns(*of):
        taken = kernel_clock.take_turns(*of)
        spoilt.append(taken)
        return taken

    monkeypatch.setattr(kernel_contenders, "compiled", spoiling)
    monkeypatch.setattr(kernel_bench, "take_turns", take_turns)
    row = row_of(case())
    assert (row["failed"], row["milliseconds"]) == (["method"], {})


def test_planted_jitter_is_noisy(monkeypatch):
    """Half of the samples take five times as long as the others: nobody can say how fast the method is."""
    rng = np.random.default_rng(3)
    right = Loop._block

    def jittered(call, turn, calls):
        right(call, turn, calls)
        return calls * 1e-3 * (5 if call.name == "method" and rng.random() < 0.5 else 1)

    monkeypatch.setattr(Loop, "_block", staticmethod(jittered))
    row = row_of(case(Approx(), shape=conv_shape((4, 8, 8, 8), 8, (3, 3))), rounds=12)
    assert row["failed"] == []
    assert {times["ratio"]["verdict"] for times in (row, row["also"]["hot"])} == {"NOISY"}


def test_all_contenders_of_a_row_are_timed_by_one_clock():
    def blind(function, **_):
        return lambda: (function(), None)

    row = row_of(case(Zero()), make_clock=lambda: Cupti(blind))
    assert (row["clock"], row["layout_milliseconds"]) == ("loop", {})
    assert {len(samples) for samples in row["milliseconds"].values()} == {3}


def test_what_cupti_sees_is_written_by_kernel():
    def profiler(function, *, iterations, **_):
        return lambda: (function(), [[("loop_transpose_fusion", 0.5), ("top1_gather", 1.0)]] * iterations)

    row = row_of(case(Zero()), make_clock=lambda: Cupti(profiler))
    assert (row["clock"], row["milliseconds"]["method"]) == ("cupti", [1.5] * 3)
    assert row["layout_milliseconds"]["method"] == [0.5] * 3
    assert row["kernels"]["method"] == ["loop_transpose_fusion", "top1_gather"]
    assert "vjp method" not in row["kernels"]


def test_pytorch_takes_part_where_it_is_installed():
    pytest.importorskip("torch")
    row = row_of(case(Full(), part="dgrad", shape=UNEVEN))
    assert {"torch nchw", "torch nhwc"} <= row["milliseconds"].keys()
    assert sum(name.startswith("ours/torch") for name in row["ratios"]) == 1
