"""The programs behind `make gpu-bench`, as far as a machine without a GPU can tell."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from approxtrain.config import load
from approxtrain_kernels import conv_shape
from tools import gpu_measure

pytestmark = pytest.mark.gate

ROOT = Path(__file__).parents[2]
SMALL = ["data.limit=64", "train.batch_size=4"]


def options(*overrides: str) -> argparse.Namespace:
    return argparse.Namespace(data=None, name="shapes", overrides=[*SMALL, *overrides])


@pytest.fixture
def bench(tmp_path):
    """`bench(*arguments, python=…)`: the script with planted programs, and what became of each stage.

    `python` is a shell script in the place of the interpreter; its $1 is a stage that is measured.
    """
    programs = tmp_path / "bin"
    programs.mkdir()

    def plant(name: str, code: str) -> Path:
        (programs / name).write_text(f"#!/bin/sh\n{code}\n")
        (programs / name).chmod(0o755)
        return programs / name

    def call(*arguments: str, python: str = "exit 0", gpu: bool = True) -> tuple[Any, dict[str, str]]:
        plant("nvidia-smi", "echo 'GPU 0: planted'" if gpu else "exit 9")  # a GPU that this machine has is not asked
        interpreter = plant("python", f"shift; {python}")
        paths = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": paths, "GPU_PYTHON": str(interpreter), "RESULTS": str(tmp_path / "results")}
        command = [ROOT / "tools/gpu_bench.sh", "--out", tmp_path / "results", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        record = tmp_path / "results/stages.txt"
        lines = record.read_text().splitlines() if record.exists() else []
        return done, {line.split()[0]: line.split(" s  ")[1] for line in lines}

    return call


def test_a_stage_that_fails_does_not_stop_the_others(bench, tmp_path):
    broken = 'echo "ran $1"; [ "$1" != seeds ] || exit 3; echo "{}" > "$RESULTS/$1.json"'
    done, became = bench("--only", "seeds,forms", python=broken)
    assert became == {"facts": "ok", "seeds": "failed with exit code 3", "forms": "ok"}
    assert done.returncode == 1
    assert (tmp_path / "results/forms.log").read_text() == "ran forms\n"
    assert "ran forms\n" in done.stdout
    assert bench("--only", "forms")[0].returncode == 0


def test_an_absent_program_is_a_stage_that_failed(bench):
    if shutil.which("compute-sanitizer"):
        pytest.skip("compute-sanitizer is there")
    assert bench("--only", "sanitizer-memcheck")[1]["sanitizer-memcheck"] == "failed with exit code 127"


def test_a_stage_is_ended_with_all_that_it_started_when_time_is_over_and_the_rest_is_not_run(bench, tmp_path):
    slow = '[ "$1" != seeds ] || sh -c "sleep 5; echo late > $RESULTS/late"'
    start = time.monotonic()
    done, became = bench("--only", "seeds,forms", "--minutes", "0.05", python=slow)
    assert became == {"facts": "ok", "seeds": "out of time", "forms": "not run: no time was left"}
    assert done.returncode == 1
    time.sleep(max(start + 7 - time.monotonic(), 0))
    assert not (tmp_path / "results/late").exists()


def test_nothing_follows_facts_that_failed(bench):
    done, became = bench("--only", "forms", python="exit 1")
    assert became == {"facts": "failed with exit code 1", "forms": "not run: facts has to succeed first"}
    assert done.returncode == 1


def test_an_old_result_does_not_pass_for_a_new_one(bench, tmp_path):
    old = tmp_path / "results/forms.json"
    old.parent.mkdir()
    old.write_text("old")
    bench("--only", "seeds")
    assert old.exists()
    bench("--only", "forms", python="exit 1")
    assert not old.exists()


def test_gpu_bench_refuses_without_a_gpu_and_says_what_can_be_done(bench, tmp_path):
    done, _ = bench(gpu=False)
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr
    assert "make gpu-check" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_dry_run_lists_the_stages_and_each_is_one_that_there_is(bench):
    names = [line.split()[0] for line in bench("--dry-run", gpu=False)[0].stdout.splitlines()]
    assert names[:3] == ["facts", "right", "table1-tf32"]
    assert bench("--dry-run", "--only", "facts,nonsense")[0].returncode == 2
    assert bench("--nonsense")[0].returncode == 2
    done, became = bench("--data", "a folder", python='echo "command: $*"')
    assert list(became) == names
    measured = re.findall(r"^command: (\S+) --json", done.stdout, re.MULTILINE)
    assert set(measured) == set(gpu_measure.STAGES)
    assert re.search(r"^command: drift .* --data a folder --name cifar10$", done.stdout, re.MULTILINE)


def test_a_form_is_timed_kernel_by_kernel_and_one_that_breaks_hides_no_other(monkeypatch, capsys):
    class Profiler:
        def __init__(self, *, finalize: bool) -> None:
            pass

        def measure(self, function, *, aggregate, iterations):
            kernels = [("approx_select", 0.5), ("approx_gather", 1.0)]
            return lambda *arrays: (function(*arrays), [kernels] * iterations)

    def interpreted(x, dy, shape, k, plan):
        if plan.form == "fused":
            raise ValueError("broken")
        return estimate(x, dy, shape, k, plan=plan, interpret=True)

    estimate = gpu_measure.estimate
    monkeypatch.setattr("jax.experimental.mosaic.gpu.profiler.Cupti", Profiler)
    monkeypatch.setattr(gpu_measure, "estimate", interpreted)
    (row,) = gpu_measure.timed_forms([conv_shape((4, 8, 8, 16), 16, (3, 3))], ["bfloat16"])
    assert row["forms"]["fused"]["failed"] == "ValueError: broken"
    assert row["forms"]["gather"]["kernels_us"] == [("approx_select", 500.0), ("approx_gather", 1000.0)]
    assert row["right"] is False
    monkeypatch.setattr(gpu_measure, "timed_forms", lambda *_: iter([row]))
    assert list(gpu_measure.forms(options())) == [row]
    assert "'fused': 'ValueError: broken'" in (told := capsys.readouterr().out)
    assert "'gather': 1500.0" in told


@pytest.mark.long
def test_of_several_seeds_the_images_of_all_are_counted(monkeypatch, capsys):
    monkeypatch.setattr(gpu_measure, "ROUNDS", 6)
    monkeypatch.setattr(gpu_measure, "STEPS", 2)
    monkeypatch.setattr(gpu_measure, "SEEDS", (2,))
    monkeypatch.setattr(gpu_measure, "load", lambda name, overrides: load("cnn2-full", overrides))
    (row,) = gpu_measure.seeds(options())
    for name, networks in (("full, seeds 1", 1), ("approx, seeds 2", 2)):
        seconds = median(row["milliseconds"][name]) / 1e3
        assert row["images_a_second"][name] == pytest.approx(4 * networks / seconds)
    assert "full, seeds 1" not in row["ratio_to_one_seed"]
    assert capsys.readouterr().out.count("images a second") == 4


@pytest.mark.long
def test_a_run_is_itself_again_but_drifts_away_when_every_weight_is_one_ulp_up(monkeypatch):
    monkeypatch.setattr(gpu_measure, "load", lambda name, overrides: load("cnn2-approx", overrides))
    row = next(gpu_measure.drift(options()))
    assert len(row["first_losses"]) == gpu_measure.STEPS
    assert row["apart"]["run again"] == [0.0] * gpu_measure.STEPS
    apart = row["apart"]["one ulp"]
    assert apart[0] < 1e-5
    assert row["largest"]["one ulp"] == max(apart) > 0
