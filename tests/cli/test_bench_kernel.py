"""`approxtrain bench-kernel`: what it prints, what it writes, and what it refuses to time."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console

from approxtrain.bench import kernel_cases, kernel_clock, machine
from approxtrain.bench.kernel_cases import PRECISIONS
from approxtrain.bench.kernel_clock import Loop
from approxtrain.bench.machine import Machine
from approxtrain_cli import bench_kernel
from approxtrain_kernels import conv_shape
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.full import Full

SHAPE = ("bench-kernel", "--shapes", "2,4,4,3,5,3,1", "--rounds", "3")
LINE = "3→5 4×4 k3 s1 "
ZERO = (*SHAPE, "--method", "zero")


@pytest.fixture
def small_machine(monkeypatch):
    """Limits that need no measuring, a cache that few inputs fill, and short samples."""
    monkeypatch.setattr(kernel_clock, "LOOP_SECONDS", 1e-4)
    limits = Machine(1e10, dict.fromkeys(PRECISIONS, 1e11), 1 << 12, "assumed", 1e-6)
    monkeypatch.setattr(machine, "measure", lambda precisions: limits)


def lines(out: str) -> list[str]:
    return [line.rstrip() for line in out.splitlines() if line.startswith(LINE)]


def without_peers(names) -> set[str]:
    return {name for name in names if not name.startswith("torch")}


@pytest.mark.gate
def test_a_shape_is_a_line_of_the_table_and_every_sample_is_in_the_json(call, tmp_path):
    ended = call(*SHAPE, "--method", "approx", "--param", "k=2", "--json", tmp_path / "deep" / "bench.json")
    assert (ended.code, ended.err) == (0, "")
    assert "rows      wgrad by approx(k=2); float32, 3 interleaved rounds" in ended.out
    table, hot, exact, both = lines(ended.out)
    assert max(map(len, (table, hot, exact, both))) <= 100
    assert table.split()[-1] == "NOISY"  # of three rounds
    assert re.search(r" none +[\d.]+ +\d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\) +\d+% +[\d.e+-]+ +\d+% \de-\d\d ", table)
    assert re.search(r"^measured  copy \d+\.\d GB/s, float32 products \d+ GFLOP/s, an empty call ", ended.out, re.M)
    assert "timer     loop: wall clock around enough calls to last 20 ms" in ended.out
    written = json.loads((tmp_path / "deep" / "bench.json").read_text())
    assert (written["command"], written["method"], written["dtype"]) == ("bench-kernel", "approx(k=2)", "float32")
    assert (written["schema"], written["timer"]["name"], written["part"]) == (2, "loop", "wgrad")
    assert written["environment"].keys() >= {"device", "versions", "xla_flags", "cpu_count", "git_commit"}
    assert written["machine"]["bandwidth_gb_s"] > 0
    (row,) = written["rows"]
    assert row["shape"]["in_channels"] == 3
    names = {"dense", "ours", "xla", "method", "vjp full", "vjp method"}
    for times, cache in ((row, "cold"), (row["also"]["hot"], "hot")):
        assert times["cache"] == cache
        assert without_peers(times["milliseconds"]) == names
        assert {len(samples) for samples in times["milliseconds"].values()} == {3}
        assert times["ratio"]["low"] <= times["ratio"]["value"] <= times["ratio"]["high"]
    assert {error < 1e-5 for error in row["relative_error"].values()} == {True}
    assert (row["failed"], row["ratio"]["verdict"]) == ([], "NOISY")


def test_each_dtype_has_its_tables_with_a_cold_and_a_hot_cache(call, small_machine):
    ended = call(*SHAPE, "--method", "zero", "--dtype", "float32,bfloat16")
    assert (ended.code, ended.err) == (0, "")
    heads = re.findall(r"^(float32|bfloat16), (cold|hot) cache$", ended.out, re.M)
    assert heads == [("float32", "cold"), ("float32", "hot"), ("bfloat16", "cold"), ("bfloat16", "hot")]
    assert len(lines(ended.out)) == 4 * 2


@pytest.mark.parametrize("part", ["forward", "dgrad"])
def test_an_exact_part_is_ours_against_the_others(part, call, small_machine, tmp_path):
    ended = call(*SHAPE, "--part", part, "--json", tmp_path / "bench.json")
    assert (ended.code, ended.err) == (0, "")
    assert len(lines(ended.out)) == 3
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert without_peers(row["milliseconds"]) == {"ours", "xla"}
    assert (row["part"], row["ratio"]["verdict"], "ours/xla" in row["ratios"]) == (part, "NOISY", True)
    assert row["base_is"] != "ours"


def test_a_planted_wrong_index_has_no_speed(call, monkeypatch, small_machine, tmp_path):
    import jax.numpy as jnp

    right = Approx.estimate
    monkeypatch.setattr(Approx, "estimate", lambda self, x, *of, **how: right(self, jnp.roll(x, 1, axis=1), *of, **how))
    ended = call(*SHAPE)
    assert ended.code == 1
    (line,) = lines(ended.out)
    assert re.fullmatch(r"3→5 4×4 k3 s1 +method wrong +\de[+-]\d\d FAIL", line)
    assert "Times are" not in ended.out


@pytest.fixture
def stretched(monkeypatch, small_machine):
    """`stretched(f)`: every call lasts a millisecond, one of the method f(number of the sample) of them.

    The clock is planted, since a busy machine would plant jitter of its own.
    """
    right, counted = Loop._block, itertools.count()

    def stretch(factor) -> None:
        def block(one, turn, calls):
            right(one, turn, calls)
            return calls * 1e-3 * (factor(next(counted)) if one.name == "method" else 1)

        monkeypatch.setattr(Loop, "_block", staticmethod(block))

    return stretch


def test_planted_jitter_is_noisy_and_no_claim_is_made(call, stretched):
    rng = np.random.default_rng(0)
    stretched(lambda _: rng.choice([1, 8]))
    ended = call(*SHAPE[:3], "--rounds", "14")
    assert ended.code == 0
    assert lines(ended.out)[0].split()[-1] == "NOISY"
    assert "NOISY: the times do not tell." in ended.out


@pytest.mark.parametrize(("percent", "code"), [(None, 0), (100, 1), (1e9, 0)])
def test_a_method_that_is_slower_than_dense_fails_where_that_was_asked_for(percent, code, call, stretched):
    stretched(lambda _: 1000)
    ended = call(*SHAPE[:3], "--rounds", "6", *(["--fail-if-slower", percent] if percent else []))
    assert ended.code == code
    assert bool(re.search(r"^too slow  more than 100 % slower: 3→5 4×4 k3 s1 float32 \(\d+", ended.out, re.M)) == bool(
        code
    )


@pytest.mark.parametrize(("low", "high", "slow"), [(1.06, 1.2, True), (1.04, 1.2, False), (0.9, 0.95, False)])
def test_only_what_is_surely_slower_is_too_slow(low, high, slow):
    row = {"shape": asdict(conv_shape((2, 4, 4, 3), 5, (3, 3))), "dtype": "float32"}
    ratio = {"value": 1.1, "low": low, "high": high, "verdict": ""}
    assert bench_kernel._too_slow(Console(quiet=True), [(row, ratio)], 5) is slow


@pytest.mark.parametrize(("wrong", "name"), [(Approx, "method"), (Full, "ours")], ids=["method", "ours"])
def test_a_wrong_gradient_is_a_failure_without_a_time(wrong, name, call, monkeypatch, small_machine, tmp_path):
    right = wrong.estimate
    monkeypatch.setattr(wrong, "estimate", lambda *args, **options: right(*args, **options) * 1.001)
    ended = call(*SHAPE, "--json", tmp_path / "bench.json")
    assert ended.code == 1
    (line,) = lines(ended.out)
    assert line.split()[3:] == ["s1", name, "wrong", "1e-03", "FAIL"]
    assert f"wrong     {LINE}float32, {name}: error 1e-03, allowed 1e-05" in ended.out
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert name in row["failed"]
    assert (row["milliseconds"], row["ratio"]) == ({}, None)


def test_nan_is_a_failure_that_json_can_hold(call, monkeypatch, small_machine, tmp_path):
    right = Approx.estimate
    monkeypatch.setattr(Approx, "estimate", lambda *args, **options: right(*args, **options) * float("nan"))
    ended = call(*SHAPE, "--json", tmp_path / "bench.json")
    assert ended.code == 1
    assert lines(ended.out)[0].split()[-2:] == ["nan", "FAIL"]
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["relative_error"]["method"] == "nan"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--shapes", "1,2,3"], "seven numbers N,H,W,Ci,Co,K,S, such as 128,32,32,16,16,3,1; this is '1,2,3'."),
        (["--shapes", "2,4,4,3,5,0,1"], "`kernel_size` (=(0, 0)) must be"),
        (["--shapes", "2,0,4,3,5,3,1"], "every number of a shape must be at least 1"),
        (["--shapes", "model:resnet21"], "there are cnn2, cnn5, resnet14, resnet20"),
        (["--shapes", " ; "], "names no shape: paper, model:NAME or N,H,W,Ci,Co,K,S."),
        (["--method", "aprox"], "Did you mean 'approx'?"),
        (["--method", "zero", "--param", "k=3"], "method 'zero' has no parameter 'k'; it takes no parameter."),
        (["--method", "approx", "--param", "scale=big"], "`scale` (='big') must be a finite number, or 'paper'"),
        (["--param", "k"], "must be NAME=VALUE, such as k=4."),
        (["--dtype", "float32,float64"], "(='float64') must be one of float32, tf32, bfloat16, float16"),
        (["--part", "wgrads"], "`--part` (='wgrads') must be one of wgrad, forward, dgrad."),
        (["--part", "dgrad", "--method", "approx"], "times exact forms: leave out `--method` (='approx')."),
        (["--compare", "nothing.json"], "nothing.json cannot be read: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(arguments, told, call):
    ended = call("bench-kernel", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: `--")
    assert told in ended.err


def test_a_cpu_has_no_tf32(call):
    ended = call(*SHAPE, "--dtype", "tf32")
    assert (ended.code, ended.err) == (
        2,
        "error: `--dtype tf32` needs an NVIDIA GPU: a CPU has no TF32. Take float32.\n",
    )


def test_the_list_names_what_the_options_take_and_starts_no_jax(program):
    code = "import atexit; atexit.register(lambda: print('jax' in sys.modules, file=sys.stderr)); main()"
    done = program("bench-kernel", "--list", code=code)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert max(map(len, done.stdout.splitlines())) <= 100
    for word in ("paper", "model:NAME", "k=1, scale=1.0", "r=2", "random", "tf32", "dgrad"):
        assert word in done.stdout
    assert "implementation" not in done.stdout


def test_a_shape_that_is_named_twice_is_measured_once_and_its_work_is_counted():
    cases = kernel_cases.cases(["128,8,8,256,256,3,1", "2,4,4,3,5,3,1;paper; "], "float32", "wgrad", Full())
    assert len(cases) == 9  # the first is one of the paper's eight
    assert (cases[0].cost("ours"), cases[0].shape.batch) == ((9663676416, 19136512), 128)


@pytest.fixture
def written(call, small_machine, tmp_path):
    """A file to compare with, and a way to change it."""
    path = tmp_path / "old.json"
    assert call(*ZERO, "--json", path).code == 0

    def change(**values) -> list:
        times = json.loads(path.read_text())
        path.write_text(json.dumps(times | values))
        return ["--compare", path]

    return change


def slowed(rows: list, factor: float) -> list:
    """The rows of a file, its times `factor` as long, of six rounds that hardly differ."""
    for row in rows:
        for times in (row, *row["also"].values()):
            middle = sorted(times["milliseconds"]["method"])[1] * factor
            times["milliseconds"]["method"] = [middle * (1 + number / 1e6) for number in range(6)]
    return rows


def test_an_older_file_is_compared_row_by_row(call, written, tmp_path):
    rows = json.loads((tmp_path / "old.json").read_text())["rows"]
    ended = call(*ZERO, *written(rows=slowed(rows, 10)), "--fail-if-slower", "100")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^3→5 4×4 k3 s1 float32 cold +[\d.]+ +[\d.]+ +0\.\d{3} \(0\.\d+–0\.\d+\) ", ended.out, re.M)
    ended = call(*ZERO, *written(rows=slowed(rows, 1e-4)), "--fail-if-slower", "100")
    assert ended.code == 1
    assert re.search(r"^too slow  more than 100 % slower: 3→5 4×4 k3 s1 float32 \(\d+", ended.out, re.M)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"environment": {}}, "device was None and is 'cpu'"),
        ({"timer": {"name": "cupti"}}, "timer was 'cupti' and is 'loop'. Times cannot be compared; measure it again"),
        ({"schema": 1}, "has the schema 1, and this version reads 2."),
        ({"command": "bench-step"}, "was not written by `approxtrain bench-kernel --json`."),
        ({"rows": []}, "has none of these shapes by this method and in this dtype."),
    ],
    ids=["environment", "clock", "schema", "command", "rows"],
)
def test_a_file_that_was_measured_otherwise_is_refused(changed, told, call, written):
    ended = call(*ZERO, *written(**changed))
    assert ended.code == 2
    assert told in ended.err
