"""The programs behind `make gpu-bench`, as far as a machine without a GPU can tell."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from approxtrain.config import load
from approxtrain_kernels import conv_shape
from tools import gpu_bench, gpu_measure
from tools.gpu import forms
from tools.gpu.stages import Stage, run

pytestmark = pytest.mark.gate

ROOT = Path(__file__).parents[2]
SMALL = ["data.limit=64", "train.batch_size=4"]


def options(*overrides: str) -> argparse.Namespace:
    return argparse.Namespace(data=None, name="shapes", overrides=[*SMALL, *overrides])


def stage(name: str, code: str, seconds: float = 30, *, needed: bool = False) -> Stage:
    """A stage that runs Python code; `file` is where its JSON belongs."""
    return Stage(name, f"tries {name}", (sys.executable, "-c", code), seconds, {}, f"{name}.json", needed)


def writes(folder: Path, name: str) -> str:
    return f"open({str(folder / name) + '.json'!r}, 'w').write('{{}}')"


def test_a_stage_that_fails_does_not_stop_the_others(tmp_path):
    stages = [
        stage("breaks", "raise SystemExit(3)"),
        stage("forgets", ""),
        Stage("absent", "", ("no-such-program-anywhere",), 30, {}, "absent.json"),
        stage("works", writes(tmp_path, "works")),
        Stage("writes nothing", "", (sys.executable, "-c", "print('all passed')"), 30, {}),
    ]
    outcomes = run(stages, tmp_path, 60)
    assert [outcome.status for outcome in outcomes] == ["failed", "failed", "failed", "ok", "ok"]
    assert outcomes[0].exit_code == 3
    assert "no forgets.json" in outcomes[1].why
    assert "no-such-program-anywhere" in outcomes[2].why
    assert (tmp_path / "writes nothing.log").read_text() == "all passed\n"


def test_a_stage_is_ended_with_all_that_it_started_when_its_time_is_over(tmp_path):
    child = f"import time; time.sleep(20); {writes(tmp_path, 'late')}"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    slow, fast = run([stage("slow", code, 1), stage("fast", writes(tmp_path, "fast"))], tmp_path, 60)
    assert (slow.status, fast.status) == ("out of time", "ok")
    assert time.monotonic() - start < 15
    assert not (tmp_path / "late.json").exists()


def test_when_the_time_of_all_is_over_the_rest_is_not_run(tmp_path):
    outcomes = run([stage("slow", "import time; time.sleep(30)"), stage("rest", "")], tmp_path, 1)
    assert [outcome.status for outcome in outcomes] == ["out of time", "not run"]


def test_nothing_follows_a_needed_stage_that_failed(tmp_path):
    outcomes = run([stage("first", "raise SystemExit(1)", needed=True), stage("second", "")], tmp_path, 60)
    assert [outcome.status for outcome in outcomes] == ["failed", "not run"]
    assert outcomes[1].why == "first has to succeed first"


def test_the_record_is_complete_after_each_stage_and_an_old_result_does_not_pass_for_a_new_one(tmp_path):
    (tmp_path / "second.json").write_text("old")
    seen = []
    stages = [stage("first", writes(tmp_path, "first")), stage("second", "")]
    run(stages, tmp_path, 60, on_end=lambda *_: seen.append(json.loads((tmp_path / "stages.json").read_text())))
    assert [record["left"] for record in seen] == [["second"], []]
    assert [row["file"] for row in seen[1]["stages"]] == ["first.json", None]
    assert not (tmp_path / "second.json").exists()


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": "/nowhere"}  # a GPU that this machine may have is not outcomes
    command = [sys.executable, str(ROOT / "tools/gpu_bench.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_gpu_bench_refuses_without_a_gpu_and_says_what_can_be_done():
    done = script()
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr
    assert "make gpu-check" in done.stderr


def test_a_dry_run_lists_the_stages_and_each_is_a_command_that_there_is(tmp_path):
    names = [line.split()[0] for line in script("--dry-run").stdout.splitlines()]
    assert names[:3] == ["facts", "right", "table1-tf32"]
    assert script("--dry-run", "--only", "facts,nonsense").returncode == 2
    stages = gpu_bench.stages(tmp_path, "", ("--data", "there"))
    assert [stage.name for stage in stages] == names
    measured = {stage.command[2] for stage in stages if "tools/gpu_measure.py" in stage.command}
    assert measured == set(gpu_measure.STAGES)
    (drift,) = (stage for stage in stages if stage.name == "drift")
    assert drift.command[-2:] == ("--data", "there")


def test_a_form_is_timed_kernel_by_kernel_and_one_that_breaks_hides_no_other(monkeypatch):
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

    estimate = forms.estimate
    monkeypatch.setattr("jax.experimental.mosaic.gpu.profiler.Cupti", Profiler)
    monkeypatch.setattr(forms, "estimate", interpreted)
    (row,) = forms.run([conv_shape((4, 8, 8, 16), 16, (3, 3))], ["bfloat16"])
    assert row["forms"]["fused"]["failed"] == "ValueError: broken"
    assert row["forms"]["gather"]["kernels_us"] == [("approx_select", 500.0), ("approx_gather", 1000.0)]
    assert row["right"] is False
    assert forms.microseconds(row["forms"]["gather"]) == 1500.0


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


def test_a_run_is_itself_again_but_drifts_away_when_every_weight_is_one_ulp_up(monkeypatch):
    monkeypatch.setattr(gpu_measure, "load", lambda name, overrides: load("cnn2-approx", overrides))
    row = next(gpu_measure.drift(options()))
    assert len(row["first_losses"]) == gpu_measure.STEPS
    assert row["apart"]["run again"] == [0.0] * gpu_measure.STEPS
    apart = row["apart"]["one ulp"]
    assert apart[0] < 1e-5
    assert row["largest"]["one ulp"] == max(apart) > 0
