"""What stands in the tables: verdicts, missing and diverged cells, which runs are averaged, what a speed-up is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from approxtrain.errors import ConfigError
from approxtrain.paper import experiments
from approxtrain.report import drawing, figures, inputs, paper_report, table1
from approxtrain.report.document import Picture
from approxtrain.report.inputs import BenchFile, Inputs
from approxtrain.report.paper_report import PaperSelection, RowResult, by_row, compose, select
from approxtrain.run import archive
from approxtrain.run.archive import Archive

ROOT = Path(__file__).parents[3]


def chosen(table: str, runs: list[Archive]) -> PaperSelection:
    found = select(experiments.get(table), by_row(runs))
    assert found is not None
    return found


def rows(table: str, runs: list[Archive], steps: tuple[BenchFile, ...] = ()) -> dict[str, RowResult]:
    return {result.row.name: result for result in paper_report.results(chosen(table, runs), steps)}


def cells(table: str, runs: list[Archive]) -> dict[str, dict[str, str]]:
    """Row → heading → what the first table of its section says there; nothing is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "curves", lambda *arguments: [])
        patch.setattr(drawing, "picture", lambda *arguments: Picture("none", "", b"", b"", []))
        text = compose(Inputs(runs, [], [])).document.markdown
    section = text.partition(f"## {experiments.get(table).title}")[2]
    headings, _, *lines = section.partition("\n| row")[2].partition("\n\n")[0].splitlines()
    split = [line.strip("| ").split(" | ") for line in lines]
    return {row[0]: dict(zip(["row", *headings.strip("| ").split(" | ")], row, strict=True)) for row in split}


@pytest.fixture
def three(make_run) -> list[Archive]:
    """Table 3 with three seeds of full, zero and approx as the paper has it."""
    runs = []
    for seed, shift in enumerate((-0.002, 0.0, 0.002)):
        runs.append(make_run("resnet20-full", seed, best=0.918 + shift, epochs=30))
        runs.append(make_run("resnet20-schedule1-zero", seed, best=0.903 + 1.1 * shift, epochs=30, step_ms=93))
        runs.append(make_run("resnet20-schedule1-approx-paper", seed, best=0.88 + shift, final=0.87, epochs=30))
    return runs


def test_a_row_has_mean_interval_difference_and_verdict(three):
    found = rows("table3", three)
    zero = found["resnet20-schedule1-zero"]
    assert zero.numbers["best_accuracy"] is not None
    assert zero.numbers["best_accuracy"].mean == pytest.approx(90.3)
    assert zero.numbers["difference"] is not None
    assert zero.numbers["difference"].mean == pytest.approx(-1.5)
    assert zero.numbers["difference"].half_width == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-5)
    assert (zero.paper_difference, zero.verdict.word) == (-1.5, "agrees")
    assert found["resnet20-schedule1-approx-paper"].verdict.word == "differs"
    assert found["resnet20-full"].verdict.word == "reference"
    assert found["resnet20-schedule1-random"].verdict.word == "not run"


def test_our_own_rows_have_no_claim_of_the_paper_s_to_be_held_against(make_run):
    runs = [make_run(name, seed) for name in ("cnn2-full", "cnn2-pooled", "cnn2-approx") for seed in (0, 1)]
    found = rows("table2", runs)
    assert found["cnn2-pooled"].verdict.word == "not in the paper"
    assert found["cnn2-approx"].paper_difference == -1.0  # the paper has one approx: both of ours are held against it


def test_the_final_accuracy_stands_beside_the_best(three):
    written = cells("table3", three)["Approx. Gradient"]
    assert (written["best, %"], written["final, %"], written["n"]) == ("88.00 ± 0.50", "87.00 ± 0.00", "3")


def test_one_seed_has_no_interval_and_says_so(make_run):
    written = cells("table2", [make_run("cnn2-full", best=0.71), make_run("cnn2-zero", best=0.62)])["Zero Gradient"]
    assert written["best, %"] == "62.00 (n = 1)"
    assert written["to full, ours"] == "−9.00 (n = 1)"
    assert written["verdict"] == "inconclusive (one seed)"


def test_what_was_not_run_says_so(make_run):
    written = cells("table2", [make_run("cnn2-full")])
    assert written["Random Gradient"]["best, %"] == written["Random Gradient"]["verdict"] == "not run"
    assert written["Random Gradient"]["to full, ours"] == "–"


def test_a_run_that_diverged_is_a_cell_and_no_mean(make_run):
    lost = {"message": "diverged at step 812: the loss is nan", "done": 2}
    runs = [make_run("cnn2-full", seed) for seed in (0, 1)]
    both = cells("table2", [*runs, *(make_run("cnn2-random", seed, **lost) for seed in (0, 1))])["Random Gradient"]
    assert both["best, %"] == "seed 0 diverged at step 812; seed 1 diverged at step 812"
    assert both["verdict"] == "differs (2 diverged)"
    one = cells("table2", [*runs, make_run("cnn2-random", 0, best=0.7), make_run("cnn2-random", 1, **lost)])
    assert one["Random Gradient"]["best, %"] == "70.00 (n = 1) (seed 1 diverged at step 812)"
    assert one["Random Gradient"]["verdict"] == "inconclusive (1 diverged)"


def test_an_unfinished_run_is_a_cell(make_run):
    runs = [make_run("cnn2-full"), make_run("cnn2-zero", message="3 of 8 epochs", done=3)]
    written = cells("table2", runs)["Zero Gradient"]
    assert written["best, %"] == "seed 0 unfinished, 3 of 8 epochs"
    assert written["verdict"] == "not run"


def test_rows_without_the_exact_run_of_their_seed_are_not_judged(make_run):
    written = cells("table2", [make_run("cnn2-full", 0), make_run("cnn2-zero", 1)])["Zero Gradient"]
    assert written["to full, ours"] == "–"
    assert written["verdict"] == "not run (no exact run with its seed)"


def test_drawn_images_and_trials_judge_nothing(make_run):
    for more in ({"data": "shapes"}, {"data": "cifar100"}, {"overrides": ("data.limit=512",)}):
        runs = [make_run(name, seed, **more) for name in ("cnn2-full", "cnn2-zero") for seed in (0, 1)]
        lost = [make_run("cnn2-random", seed, message="diverged at step 8: the loss is nan", **more) for seed in (0, 1)]
        found = rows("table2", [*runs, *lost])
        assert found["cnn2-zero"].verdict.word == found["cnn2-random"].verdict.word == "inconclusive"


def test_runs_of_other_images_or_epochs_are_not_averaged_with_the_rest(make_run):
    real = [make_run(name, 0, best=0.7) for name in ("cnn2-full", "cnn2-zero")]
    drawn = [make_run(name, seed, best=0.9, data="shapes") for name in ("cnn2-full", "cnn2-zero") for seed in (0, 1)]
    short = [make_run("cnn2-full", 1, best=0.5, epochs=3)]
    other_rate = [make_run("cnn2-zero", 1, best=0.4, overrides=("optimizer.learning_rate=0.01",))]
    other_program = [replace(make_run("cnn2-zero", 2, best=0.3), trajectory=2)]
    others = [*drawn, *short, *other_rate, *other_program]
    selection = chosen("table2", [*others, *real])
    assert selection.protocol.title == "cifar10-jpeg75, 8 epochs"
    assert selection.full.finished == {0: real[0]}
    assert {run.name for run in selection.archives} == {run.name for run in real}
    report = compose(Inputs([*others, *real], [], []))
    assert f"- not here: {len(others)} runs of other settings" in report.document.markdown
    assert report.said.startswith(f"2 of {2 + len(others)} runs in the paper's rows\n")


def test_a_run_of_no_row_stands_in_none(make_run):
    own = make_run("cnn2-zero", overrides=("schedule.params={}", "schedule.name=schedule3"))
    assert by_row([own]) == {}


def test_the_speed_up_is_the_paper_s_and_of_the_same_seeds(three):
    result = rows("table3", three)["resnet20-schedule1-zero"]
    found = result.numbers["speed_up"]
    assert found is not None
    assert (found.mean, found.n, result.speed_up_source) == (pytest.approx(7.0), 3, "steps of the runs")


def test_a_step_of_a_schedule_that_alternates_is_the_mean_of_its_columns(make_run):
    exact, zero = make_run("cnn2-full", step_ms=100), make_run("cnn2-zero", step_ms=90)
    every_other = {"step_ms": {"median": 100.0, "mean": 90.0, "q1": 80.0, "q3": 100.0, "n": 3119}}  # 80, 100, 80, …
    found = rows("table2", [exact, replace(zero, summary=zero.summary | every_other)])["cnn2-zero"].numbers["speed_up"]
    assert found is not None
    assert found.mean == pytest.approx(10)


def test_the_steps_of_a_run_that_went_on_elsewhere_are_those_of_its_last_machine(make_run):
    moved = make_run("cnn2-zero", step_ms=90)
    slow = [row | {"seconds": 10 * row["seconds"]} if row["epoch"] <= 6 else row for row in moved.epochs]
    moved = replace(moved, epochs=slow, summary=moved.summary | {"measured_from_step": 6 * 390})
    found = rows("table2", [make_run("cnn2-full", step_ms=100), moved])["cnn2-zero"].numbers["speed_up"]
    assert found is not None
    assert found.mean == pytest.approx(10)


def test_an_epoch_of_which_a_part_was_timed_counts_whole(make_run):
    run = make_run("cnn2-full")
    *before, last = run.epochs
    part = last | {"steps": 100, "seconds": last["seconds"] * 100 / last["steps"]}
    whole, resumed = (
        rows("table2", [each])["cnn2-full"].numbers["training_seconds"]
        for each in (run, replace(run, epochs=[*before, part]))
    )
    assert whole is not None
    assert resumed is not None
    assert resumed.mean == pytest.approx(whole.mean)


def test_times_of_two_machines_are_not_held_against_each_other(make_run):
    there = make_run("cnn2-zero", place={**make_run("cnn2-full").environment, "processor": "another"})
    assert rows("table2", [make_run("cnn2-full"), there])["cnn2-zero"].numbers["speed_up"] is None


def test_nor_are_single_steps_and_steps_by_fours(make_run):
    exact, zero = make_run("cnn2-full"), make_run("cnn2-zero")
    by_fours = [replace(run, summary=run.summary | {"chunk": 4}) for run in (exact, zero)]
    assert rows("table2", [by_fours[0], zero])["cnn2-zero"].numbers["speed_up"] is None
    assert rows("table2", by_fours)["cnn2-zero"].numbers["speed_up"] is not None


def test_the_bound_is_that_of_the_cost_model(three):
    found = rows("table5", three)
    bounds = {name: f"{outcome.bound:.1f}" for name, outcome in found.items()}
    assert bounds["resnet20-schedule1-zero"] == "8.8"  # as README has it
    assert bounds["resnet20-schedule3-approx"] == "8.4"
    assert bounds["resnet14-full"] == "35.0"  # 13 of 19 layers, by operations
    assert bounds["resnet20-full"] == "0.0"


def test_on_the_front_is_who_is_better_than_all_that_took_no_longer(make_run):
    made = {"full": (0.7, 100), "zero": (0.7, 110), "random": (0.65, 90)}
    runs = [make_run(f"cnn2-{name}", best=best, step_ms=step) for name, (best, step) in made.items()]
    picture, _ = figures.pareto(chosen("table2", runs), intervals=True)
    assert picture is not None
    assert [record["on_front"] for record in picture.records] == [True, False, True]


def test_interleaved_steps_take_the_place_of_the_runs_own(three):
    file = ROOT / "results/bench/step-resnet20-cpu.json"
    steps = inputs.read([file]).steps
    found = rows("table3", three, steps)
    measured = steps[0].content["schedules"]
    zero, approx = (found[f"resnet20-schedule1-{name}"] for name in ("zero", "approx-paper"))
    speed_up = zero.numbers["speed_up"]
    assert speed_up is not None
    assert speed_up.mean == pytest.approx(100 * measured["schedule1 with zero"]["speed_up"]["value"])
    assert (speed_up.n, zero.speed_up_source) == (steps[0].content["rounds"], file.name)
    assert approx.numbers["speed_up"] is not None
    assert approx.speed_up_source == f"{file.name}, schedule1 with approx"  # the factor costs nothing, and this is said
    assert found["resnet20-pooled"].numbers["speed_up"] is not None  # by the name of its preset
    elsewhere = BenchFile(file.name, steps[0].content | {"environment": {"device": "NVIDIA H200"}})
    own = rows("table3", three, (elsewhere,))["resnet20-schedule1-zero"]
    assert own.numbers["speed_up"] is not None
    assert own.speed_up_source == "steps of the runs"


def test_resnet20_is_held_against_the_smaller_network(three, make_run):
    runs = [*three, *(make_run("resnet14-full", seed, best=0.908, epochs=30, step_ms=75) for seed in range(3))]
    found = rows("table3", runs)
    full, smaller = found["resnet20-full"], found["resnet14-full"]
    above, step_over = (full.numbers[name] for name in ("above_resnet14", "step_over_resnet14"))
    assert above is not None
    assert step_over is not None
    assert (above.mean, step_over.mean) == (pytest.approx(1), pytest.approx(100 / 75))
    assert (above.half_width, full.record["step_over_resnet14_n"]) == (pytest.approx(0.4968, abs=1e-3), 3)
    for result in (smaller, rows("table3", three)["resnet20-full"]):
        assert (result.numbers["above_resnet14"], result.numbers["step_over_resnet14"]) == (None, None)


def test_table_1_is_read_from_bench_kernel():
    (kernels,) = inputs.read([ROOT / "results/bench/kernel-paper-cpu.json"]).kernels
    assert table1.is_table1(kernels)
    records = table1.records(kernels, "float32")
    first, second, *_ = kernels.content["rows"]
    assert len(records) == 8
    assert records[0]["times_faster"] == pytest.approx(1 / first["ratio"]["value"])
    assert records[0]["times_faster_low"] < records[0]["times_faster"] < records[0]["times_faster_high"]
    assert [records[0][key] for key in ("in_channels", "size", "paper_dense_ms", "paper_kernel_ms")] == [
        256,
        8,
        0.89,
        0.51,
    ]
    assert [row["where"] for row in table1.growth(kernels)] == ["paper", "cold, float32", "hot, float32"]
    few = BenchFile("few.json", kernels.content | {"rows": [first, second | {"milliseconds": {}}]})
    missing = [row["verdict"] for row in table1.records(few, "float32")]
    assert missing == ["FASTER", "wrong, so not timed", *["not run"] * 6]
    assert table1.growth(few) == []
    assert not table1.is_table1(inputs.read([ROOT / "results/bench/kernel-networks-cpu.json"]).kernels[0])


def test_what_is_given_is_sorted_by_what_it_is(make_run, tmp_path):
    archive.write(tmp_path / "runs/one.json", make_run("cnn2-zero"))
    archive.write(tmp_path / "runs/two.json", make_run("cnn2-full"))
    (tmp_path / "runs/report.json").write_text('{"kind": "approxtrain report"}')
    found = inputs.read([tmp_path, ROOT / "results/bench"])
    assert [run.name for run in found.archives] == ["cnn2-zero-s0", "cnn2-full-s0"]
    steps = {f"step-{model}-cpu.json" for model in ("cnn2", "resnet20", "vgg19")}
    assert {one.name for one in found.steps} == steps | {"switch-resnet20-cpu.json", "schedules-resnet20-cpu.json"}
    assert len(found.kernels) == 6
    twice = inputs.read([ROOT / "results/bench", ROOT / "results/bench/kernel-paper-cpu.json"])
    assert len(twice.kernels) == 6


def test_of_two_finished_copies_of_a_run_the_probed_one_counts(make_run, tmp_path):
    run = make_run("cnn2-zero")
    archive.write(tmp_path / "a.json", run)
    archive.write(tmp_path / "b.json", replace(run, name="probed", probes=[{"kind": "probe"}]))
    assert [found.name for found in inputs.read([tmp_path]).archives] == ["probed"]


def test_nothing_to_report_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="name run folders, archives"):
        inputs.read([])
    with pytest.raises(ConfigError, match="holds no run"):
        inputs.read([tmp_path])
    (tmp_path / "check.json").write_text((ROOT / "results/gpu/check-h200.json").read_text())
    with pytest.raises(ConfigError, match="holds no run"):
        inputs.read([tmp_path])  # a JSON of a command that is reported nowhere
    (tmp_path / "half.json").write_text('{"kind": "approx')
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        inputs.read([tmp_path])
