"""The programs behind `make gpu-check` and `make gpu-bench`, as far as a machine without a GPU can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from approxtrain_kernels import conv_shape
from approxtrain_kernels.methods import all_methods
from approxtrain_kernels.pallas.choose import FORMS
from tools.gpu import cuts, forms, right, steps, throughput
from tools.gpu.program import Program, Resources, Thunk, entries, resources
from tools.gpu.stages import Stage, run
from tools.gpu.summary import SECTIONS, drift, sections, summarise

ROOT = Path(__file__).parents[2]

CALL = (
    '%ours.1 = f32[9,8]{1,0} custom-call(%x, %dy), custom_call_target="__gpu$xla.gpu.triton", '
    'metadata={op_name="jit(step)/transpose(jvp(approx_gather))/pallas_call" scheduling_name="ours.1"}, '
    'backend_config={grid_x = 4 : i32, ir = "%not an operand", name = "approx_gather", num_warps = 4 : i32}'
)
CUDNN = '%{} = (f32[8]{{0}}, u8[0]{{0}}) custom-call(%x, %dy), custom_call_target="__cudnn$conv{}"'


def program(*body: str, fused: tuple[str, ...] = ()) -> Program:
    inner = ["%fused (p.0: f32[9,8]) -> f32[8,9] {", *fused, "}"] if fused else []
    parameters = ("%x = f32[4,8]{1,0} parameter(0)", "%dy = f32[4,8]{1,0} parameter(1)")
    return Program(
        "\n".join([*inner, "ENTRY %main (x: f32[4,8], dy: f32[4,8]) -> f32[9,8] {", *parameters, *body, "}"])
    )


def beside(*body: str, fused: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """The transposes before and after our call."""
    found = program(*body, fused=fused)
    (call,) = found.pallas_calls
    assert call.kernel == "approx_gather"
    return found.transposes(call)


def test_convolutions_are_counted_by_what_they_compute():
    kinds = ("Forward", "BackwardInput", "BackwardFilter", "BackwardFilter")
    found = program(*(CUDNN.format(f"c.{number}", kind) for number, kind in enumerate(kinds)))
    assert found.convolutions == {"forward": 1, "forward with bias": 0, "dgrad": 1, "wgrad": 2}


def test_a_call_between_others_stands_beside_no_transpose():
    user = "ROOT %add = f32[9,8]{1,0} add(%ours.1, %ours.1)"
    far = "%far = f32[8,4]{0,1} transpose(%x), dimensions={1,0}"
    assert beside(CALL, far, user) == ([], [])


@pytest.mark.parametrize(
    "user",
    [
        "ROOT %moved = f32[8,9]{1,0} transpose(%ours.1), dimensions={1,0}",
        "ROOT %moved = f32[9,8]{0,1} copy(%ours.1)",
    ],
)
def test_a_transpose_or_another_layout_of_the_result_is_seen(user):
    assert beside(CALL, user) == ([], ["moved"])


def test_a_copy_to_the_same_layout_is_no_transpose():
    assert beside(CALL, "ROOT %same = f32[9,8]{1,0} copy(%ours.1)") == ([], [])


def test_a_transpose_of_an_operand_is_seen_through_a_bitcast():
    moved = "%moved = f32[4,8]{1,0} transpose(%x), dimensions={1,0}"
    cast = "%cast = f32[2,2,8]{2,1,0} bitcast(%moved)"
    assert beside(moved, cast, CALL.replace("(%x,", "(%cast,")) == (["moved"], [])


@pytest.mark.parametrize(("operand", "expected"), [("p.0", ["fusion/turned"]), ("p.1", [])])
def test_inside_of_a_fusion_only_what_comes_from_the_call_counts(operand, expected):
    fused = (
        "%p.0 = f32[9,8]{1,0} parameter(0)",
        "%p.1 = f32[9,8]{1,0} parameter(1)",
        f"%turned = f32[8,9]{{1,0}} transpose(%{operand}), dimensions={{1,0}}",
        "ROOT %out = (f32[9,8]{1,0}, f32[8,9]{1,0}) tuple(%p.0, %turned)",
    )
    user = "ROOT %fusion = (f32[9,8]{1,0}, f32[8,9]{1,0}) fusion(%ours.1, %dy), kind=kLoop, calls=%fused"
    assert beside(CALL, user, fused=fused) == ([], expected)


def test_a_fusion_that_does_nothing_else_is_a_transpose_by_itself():
    fused = (
        "%p.0 = f32[9,8]{1,0} parameter(0)",
        "ROOT %turned = f32[8,9]{1,0} transpose(%p.0), dimensions={1,0}",
    )
    user = "ROOT %wrapped = f32[8,9]{1,0} fusion(%ours.1), kind=kInput, calls=%fused"
    assert beside(CALL, user, fused=fused) == ([], ["wrapped"])


def test_launches_are_read_with_grid_warps_and_shared_memory():
    text = (
        "001: kCopy         [source       | next=002 (1)] kCopy\n"
        "002: kCustomKernel [prev=001 (1) | sink        ] approx_gather__1 grid: [4, 2, 3] threads: [128, 1, 1]  "
        "shared_memory: 2048 bytes\n"
    )
    found = Program("", text)
    assert found.thunks == [Thunk("Copy", "kCopy"), Thunk("CustomKernel", "approx_gather__1", (4, 2, 3), 128, 2048)]
    assert found.launches("approx_gather") == found.thunks[1:]
    assert found.launches("approx") == []


def test_registers_and_spills_are_read_from_ptxas():
    report = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'first' for 'sm_90a'\n"
        "    24 bytes stack frame, 20 bytes spill stores, 16 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 24 bytes cumulative stack size, 512 bytes smem\n"
        "ptxas info    : Compiling entry function 'second' for 'sm_90a'\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 32 registers, used 0 barriers\n"
    )
    assert resources(report) == {"first": Resources(255, 24, 20, 16, 512), "second": Resources(32, 0, 0, 0, 0)}
    assert [found.spills for found in resources(report).values()] == [True, False]
    with pytest.raises(ValueError, match="nothing is known of spills"):
        resources(report.replace("Used", "Takes"))
    assert entries(".visible .entry first(\n.entry second(") == ["first", "second"]


def test_each_form_is_held_against_float64_in_each_precision_and_with_special_values(monkeypatch):
    monkeypatch.setattr(right, "estimate", partial(right.estimate, interpret=True))
    cases = list(right.cases())
    assert {case.precision.name for case in cases} == {"float32", "tf32", "bfloat16", "float16"}
    assert {case.plan.form for case in cases} == set(FORMS)
    assert {case.inputs for case in cases} == {"random", *right.SPECIAL}
    nan = [right.row(case, runs=2) for case in cases if case.inputs == "nan"]
    assert {row["form"] for row in nan if row["right"]} == set(FORMS)
    assert all(row["right"] for row in nan)


def test_a_form_that_is_wrong_is_not_timed_and_one_that_breaks_hides_no_other(monkeypatch):
    as_it_is = forms.estimate

    def by_form(x, dy, shape, k, plan):
        if plan.form == "gather":
            raise ValueError("broken")
        return (2 if plan.form == "fused" else 1) * as_it_is(x, dy, shape, k, plan=plan, interpret=True)

    monkeypatch.setattr(forms, "estimate", by_form)
    monkeypatch.setattr(forms, "CALLS", 2)
    (row,) = forms.run([conv_shape((4, 8, 8, 16), 16, (3, 3))], ["float32"])
    assert row["right"] is False
    assert row["forms"]["gather"]["failed"] == "ValueError: broken"
    assert row["forms"]["fused"]["failed"].startswith("relative error")
    assert "wall_us_median" in row["forms"]["dense"]


def test_the_steps_of_all_methods_are_compared_with_the_exact_one():
    assert set(steps.METHODS) <= set(all_methods())


def stage(name: str, code: str, seconds: float = 30, *, needed: bool = False) -> Stage:
    """A stage that runs Python code; `file` is where its JSON belongs."""
    return Stage(name, f"tries {name}", (sys.executable, "-c", code), seconds, f"{name}.json", {}, needed)


def writes(folder: Path, name: str) -> str:
    return f"open({str(folder / name) + '.json'!r}, 'w').write('{{}}')"


def test_a_stage_that_fails_does_not_stop_the_others(tmp_path):
    stages = [
        stage("breaks", "raise SystemExit(3)"),
        stage("forgets", ""),
        Stage("absent", "", ("no-such-program-anywhere",), 30, "absent.json", {}),
        stage("works", writes(tmp_path, "works")),
    ]
    found = run(stages, tmp_path, 60)
    assert [outcome.status for outcome in found] == ["failed", "failed", "failed", "ok"]
    assert found[0].exit_code == 3
    assert "no forgets.json" in found[1].why
    assert "no-such-program-anywhere" in found[2].why


def test_a_stage_is_ended_with_all_that_it_started_when_its_time_is_over(tmp_path):
    child = f"import time; time.sleep(20); {writes(tmp_path, 'late')}"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    slow, fast = run([stage("slow", code, 1), stage("fast", writes(tmp_path, "fast"))], tmp_path, 60)
    assert (slow.status, fast.status) == ("out of time", "ok")
    assert time.monotonic() - start < 15
    assert not (tmp_path / "late.json").exists()


def test_when_the_time_of_all_is_over_the_rest_is_not_run(tmp_path):
    found = run([stage("slow", "import time; time.sleep(30)"), stage("rest", "")], tmp_path, 1)
    assert [outcome.status for outcome in found] == ["out of time", "not run"]


def test_nothing_follows_a_needed_stage_that_failed(tmp_path):
    found = run([stage("first", "raise SystemExit(1)", needed=True), stage("second", "")], tmp_path, 60)
    assert [outcome.status for outcome in found] == ["failed", "not run"]
    assert found[1].why == "first has to succeed first"


def test_the_record_is_complete_after_each_stage_and_an_old_result_does_not_pass_for_a_new_one(tmp_path):
    (tmp_path / "second.json").write_text("old")
    seen = []
    stages = [stage("first", writes(tmp_path, "first")), stage("second", "")]
    run(stages, tmp_path, 60, on_end=lambda *_: seen.append(json.loads((tmp_path / "stages.json").read_text())))
    assert [record["left"] for record in seen] == [["second"], []]
    assert [row["file"] for row in seen[1]["stages"]] == ["first.json", None]
    assert not (tmp_path / "second.json").exists()


def test_the_summary_says_not_measured_where_there_is_nothing(tmp_path):
    run([stage("first", "raise SystemExit(1)")], tmp_path, 60)
    page = summarise(tmp_path)
    assert "| first | failed: exit code 1" in page
    assert page.count("not measured") == len(SECTIONS)


def test_the_page_of_the_h100_is_what_its_results_say():
    page = (ROOT / "docs/gpu-h100.md").read_text("utf-8")
    for section in sections(ROOT / "results/gpu/h100"):
        assert section in page
    control = json.loads((ROOT / "results/bench/drift-cpu.json").read_text("utf-8"))
    assert "\n".join(drift(control["rows"])) in page


def test_a_cutting_is_one_kernel_with_one_result_and_the_models_choice_is_among_them(monkeypatch):
    monkeypatch.setattr(cuts, "estimate", partial(cuts.estimate, interpret=True))
    monkeypatch.setattr(cuts, "MOST", 3)
    (row,) = cuts.run([conv_shape((4, 8, 8, 16), 16, (3, 3))], ["bfloat16"])
    assert row["right"]
    assert len(row["cuts"]) == 3
    assert row["cuts"][0]["plan"]["seconds"] <= row["cuts"][1]["plan"]["seconds"]


def test_throughput_counts_the_images_of_all_networks_and_names_what_failed(monkeypatch):
    monkeypatch.setattr(throughput, "STEPS", 2)
    monkeypatch.setattr(throughput, "ROUNDS", 6)
    as_it_is = throughput.Throughput.several

    def several(self, name, *arguments, **named):
        return replace(as_it_is(self, name, *arguments, **named), **({"call": broken} if name == "scan" else {}))

    def broken():
        raise ValueError("no such device")

    monkeypatch.setattr(throughput.Throughput, "several", several)
    monkeypatch.setattr(throughput, "SEEDS", (2,))
    small = ["train.batch_size=4", "data.limit=64"]
    (row,) = throughput.run("cnn2-full", ["float32"], ["host", "scan", "seeds"], small)
    assert row["failed"] == {"scan": "ValueError: no such device"}
    assert not row["right"]
    assert set(row["images_a_second"]) == {"host", "seeds 2"}
    for name, networks in (("host", 1), ("seeds 2", 2)):
        seconds = median(row["milliseconds"][name]) / 1e3
        assert row["images_a_second"][name] == pytest.approx(4 * networks / seconds)


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": "/nowhere"}  # a GPU that this machine may have is not found
    command = [sys.executable, str(ROOT / "tools/gpu_bench.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_gpu_bench_refuses_without_a_gpu_and_says_what_can_be_done():
    done = script()
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr
    assert "make gpu-check" in done.stderr


def test_a_dry_run_lists_the_stages_and_training_only_where_there_is_data(tmp_path):
    without, given = script("--dry-run").stdout, script("--dry-run", "--data", str(tmp_path)).stdout
    names = [line.split()[0] for line in without.splitlines()]
    assert names[:3] == ["facts", "right", "table1-tf32"]
    assert "train" not in names
    assert "train" in [line.split()[0] for line in given.splitlines()]
    assert script("--dry-run", "--only", "facts,nonsense").returncode == 2
