"""A user's own runs against each other: which schedule was best for the time, what it cost, and what cannot be told."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from approxtrain.errors import ConfigError
from approxtrain.report import drawing, inputs, output, runs_report
from approxtrain.report.inputs import Inputs
from approxtrain.run import archive
from approxtrain.run.archive import Archive
from approxtrain_kernels.methods import all_methods
from approxtrain_kernels.methods.zero import Zero

ROOT = Path(__file__).parents[3]


def said(*runs: Archive) -> str:
    """The conclusion, without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("training", "gradients"):
            patch.setattr(runs_report.figures, name, lambda *arguments: [])
        patch.setattr(runs_report.figures, "pareto", lambda selection, intervals: (None, []))
        return runs_report.compose(Inputs(list(runs), [], [])).said


def elsewhere(run: Archive, **more) -> Archive:
    """The run under another name, network or schedule: of none of the paper's."""
    config = run.config | {key: run.config[key] | value for key, value in more.items()}
    return replace(run, name=json.dumps(more), identity=json.dumps([run.identity, more]), config=config)


@pytest.fixture
def two_seeds(make_run) -> list[Archive]:
    """Zero loses 0.2 points and takes 90 % of the time; random diverged for one seed, and is far below for another."""
    exact = [make_run("cnn2-full", seed, best=0.7 + 0.01 * seed, step_ms=100) for seed in (0, 1)]
    zero = [make_run("cnn2-zero", seed, best=0.698 + 0.01 * seed, step_ms=90) for seed in (0, 1)]
    lost = make_run("cnn2-random", 1, message="diverged at step 812: the loss is nan", done=2)
    return [*exact, *zero, make_run("cnn2-random", 0, best=0.5, step_ms=80), lost]


def test_the_conclusion_comes_first_and_says_who_was_best_for_the_time(two_seeds):
    first, *lines = said(*two_seeds).replace("\n\n", "\n").splitlines()
    assert first == (
        "`alternate zero` was best for the time: it was first to 69.5 % validation accuracy (0.5 points below the best "
        "of exact training in its worst seed), after 228 s of training, where exact training took 254 s."
    )
    assert lines == [
        "- `full`: 70.50 % at best; 312 s of training; 69.5 % after 254 s",
        "- `alternate zero`: 70.30 % at best, −0.20 ± 0.00 points to exact training (mean of 2 seeds, 95 % interval); "
        "281 s of training, a step 0.90 times as long as an exact one; 69.5 % after 228 s",
        "- `alternate random`: seed 1 diverged at step 812; 50.00 % at best, −20.00 points to exact training (one "
        "seed, so no interval); 250 s of training, a step 0.80 times as long as an exact one; 69.5 % never reached",
    ]


def test_what_loses_accuracy_is_not_best_however_short_it_took(make_run):
    runs = [make_run("cnn2-full", seed, best=0.7) for seed in (0, 1)]
    text = said(*runs, *(make_run("cnn2-zero", seed, best=0.6, step_ms=10) for seed in (0, 1)))
    assert text.startswith(
        "Exact training was best for the time: it was first to 69.5 % validation accuracy (0.5 points"
    )


def test_of_one_seed_it_says_who_was_first_and_that_this_says_nothing(make_run):
    fast = [make_run("cnn2-zero", seed, step_ms=50) for seed in (0, 1)]
    first = "`alternate zero` was first to 89.5 % validation accuracy (0.5 points below the best of exact training"
    for runs in ([make_run("cnn2-full"), fast[0]], [make_run("cnn2-full"), *fast]):
        text = said(*runs)
        assert text.startswith(f"{first}; one seed: no statement which is best), after 136 s of training, where exact")
        assert "best for the time" not in text


def test_the_page_says_that_times_of_runs_were_not_taken_in_turns(make_run):
    runs = [make_run(name, seed) for name in ("cnn2-full", "cnn2-zero") for seed in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("training", "gradients"):
            patch.setattr(runs_report.figures, name, lambda *arguments: [])
        page = runs_report.compose(Inputs(runs, [], [])).document.markdown
    assert "These runs were not interleaved" in page
    assert "`approxtrain bench-step`, which measures the schedules in turns" in page


def test_who_is_sooner_with_some_of_its_seeds_only_is_named_and_not_best(make_run):
    runs = [make_run("cnn2-full", seed, best=0.7) for seed in (0, 1)]
    runs += [make_run("cnn2-zero", seed, best=0.7 - 0.1 * seed, step_ms=50) for seed in (0, 1)]
    first, *_ = said(*runs).splitlines()
    assert first.startswith("Exact training was best for the time")
    assert first.endswith("`alternate zero` was there sooner, after 136 s, but with 1 of its 2 seeds only.")


def test_exact_training_alone_is_not_called_best(make_run):
    assert said(make_run("cnn2-full")).startswith("Nothing was run but exact training, which got to 89.5 % validation")


def test_a_difference_whose_interval_holds_nought_is_not_told_from_none(make_run):
    runs = [make_run("cnn2-full", seed) for seed in (0, 1)]
    runs += [make_run("cnn2-zero", seed, best=0.9 + 0.01 * (-1) ** seed) for seed in (0, 1)]
    assert "0.00 ± 12.71 points to exact training (mean of 2 seeds, 95 % interval: not to be told from none)" in (
        said(*runs)
    )


def test_without_an_exact_run_it_says_what_makes_one(make_run):
    text = said(make_run("cnn2-zero", 3), make_run("cnn2-random", 3, step_ms=50))
    assert text.startswith("`alternate random` was first to 89.5 % validation accuracy (0.5 points below the best")
    assert "There is no finished exact run to compare with. `approxtrain train RUN/config.toml" in text
    assert "'schedule={ name = \"full\" }' train.seed=3`" in text
    text = said(make_run("cnn2-full", 0), make_run("cnn2-zero", 0), make_run("cnn2-zero", 4))
    assert "Exact training has no finished run of seed 4. `approxtrain train RUN/config.toml" in text


def test_nothing_that_finished_concludes_nothing(make_run):
    text = said(make_run("cnn2-zero", message="diverged at step 1: the loss is nan", done=0))
    assert text == "No run finished.\n\n- `alternate zero`: seed 0 diverged at step 1"


def test_times_of_another_machine_are_left_out(make_run):
    there = make_run("cnn2-zero", place={**make_run("cnn2-full").environment, "processor": "another"})
    text = said(make_run("cnn2-full", 0), make_run("cnn2-full", 1), there)
    assert "- `alternate zero`: 90.00 % at best" in text
    assert "its time is unknown, or another machine's" in text


def test_steps_by_fours_count_as_the_time_that_they_took(make_run):
    exact = make_run("cnn2-full", step_ms=100)
    exact = replace(exact, summary=exact.summary | {"chunk": 4})
    assert "a step 0.90 times as long as an exact one" in said(exact, make_run("cnn2-zero", step_ms=90))


def test_the_noise_of_an_accuracy_is_that_of_the_images_it_was_counted_on(make_run):
    run = make_run("cnn2-zero", best=0.5)
    assert "validation images" not in said(run)
    text = said(replace(run, summary=run.summary | {"validation_images": 1250}))
    assert "An accuracy on 1,250 validation images is uncertain by ± 2.8 points (95 %)" in text


@pytest.mark.parametrize(("best", "text"), [(1.0, "± 4.9 points (95 %)"), (0.0, "± 4.9 points (95 %)")])
def test_all_right_and_none_right_are_uncertain_too(make_run, best, text):
    run = make_run("cnn2-zero")
    found = said(replace(run, summary=run.summary | {"validation_images": 75, "best_accuracy": best}))
    assert f"An accuracy on 75 validation images is uncertain by {text}" in found
    assert f"{100 * best:.1f} % may be " + ("95.1 to 100.0 %" if best else "0.0 to 4.9 %") in found


def test_runs_of_other_settings_or_networks_are_groups_of_their_own(make_run):
    runs = [make_run("cnn2-full"), make_run("cnn2-zero"), make_run("cnn2-zero", epochs=3)]
    runs += [
        make_run("cnn2-full", overrides=("optimizer.learning_rate=1e10",)),
        elsewhere(runs[1], model={"name": "my net"}),
    ]
    heads = re.findall(r"^\S+.* on .*$", said(*runs), re.MULTILINE)
    assert heads == [
        "cnn2 on cifar10-jpeg75, 8 epochs, optimizer.learning_rate 0.001",
        "cnn2 on cifar10-jpeg75, 3 epochs",
        "cnn2 on cifar10-jpeg75, 8 epochs, optimizer.learning_rate 1e+10",
        "my net on cifar10-jpeg75, 8 epochs",
    ]


def test_schedules_of_one_name_are_told_apart_by_what_differs(make_run):
    run = make_run("cnn2-approx")
    text = said(run, elsewhere(run, schedule={"params": {"k": 2}}))
    assert "- `alternate approx`: " in text
    assert "- `alternate approx, params.k 2`: " in text


BESIDES = {
    "full, 24 pixels": {"image_sizes": [{"size": 24, "epochs": {"to": "50%"}}]},
    "full, 0.5 of each batch": {"image_shares": [{"share": 0.5}]},
    "full, without stage?/2, local 8": {"bypass": [{"path": "stage?/2", "to": 1}], "local": [{"every": 8}]},
}


@pytest.mark.parametrize("title", BESIDES)
def test_exact_gradients_of_less_than_all_are_not_the_exact_training(make_run, title):
    run = make_run("cnn2-full")
    assert f"- `{title}`: " in said(run, elsewhere(run, schedule=BESIDES[title]))


@pytest.mark.parametrize("paper", [False, True])
def test_of_repeated_runs_the_last_by_name_counts_and_the_others_are_named(make_run, tmp_path, paper):
    first = make_run("cnn2-zero", best=0.6)
    runs = {name: replace(make_run("cnn2-zero", best=best), name=name) for name, best in (("b", 0.7), ("c", 0.65))}
    for name, run in {"z": replace(first, name="a"), "copy": runs["c"], **runs}.items():
        archive.write(tmp_path / f"{name}.json", run)
    files = sorted(tmp_path.glob("*.json"))
    report = output.write(files, tmp_path / "report", paper=paper)
    assert [run.name for run in report.placed] == ["c"]
    for text in (report.said, report.document.markdown, report.document.html.replace("code>", "`").replace("<`", "`")):
        for name in ("a", "b"):
            assert f"`{name}`, for which `c` was taken (seed 0)" in text.replace("</`", "`")
    assert "`copy`" not in report.document.markdown
    again = output.write(files[::-1], tmp_path / "again", paper=paper)
    assert again.document.markdown == report.document.markdown


def test_exact_runs_that_differ_in_what_changes_nothing_count_once_and_it_is_said(make_run):
    run = make_run("cnn2-full")
    other = elsewhere(make_run("cnn2-full", best=0.8), schedule={"name": "schedule1", "method": "full"})
    text = said(replace(run, name="a"), replace(other, name="b"))
    assert "`a`, for which `b` was taken (seed 0)" in text


def test_repeated_runs_of_one_name_are_told_apart_by_their_folders(make_run, tmp_path):
    for name, best in (("one", 0.6), ("two", 0.7)):
        (tmp_path / name).mkdir()
        archive.write(tmp_path / name / "run.json", replace(make_run("cnn2-zero", best=best), name="run"))
    (left_out,) = inputs.read([tmp_path]).left_out
    assert {left_out.name, left_out.taken} == {"one/run.json", "two/run.json"}


def test_networks_of_one_name_and_other_arguments_are_groups_of_their_own(make_run):
    run = make_run("cnn2-zero")
    text = said(run, elsewhere(run, model={"arguments": {"width": 2}}))
    assert "cnn2 on cifar10-jpeg75, 8 epochs, model.arguments.width 2" in text
    assert "Left out" not in text


def test_rules_are_told_apart_in_few_words_else_by_a_run_of_theirs(make_run):
    def ruled(name: str, *rules: dict) -> Archive:
        run = make_run("cnn2-zero")
        config = run.config | {"schedule": {"rules": list(rules)}}
        return replace(run, name=name, identity=name, config=config)

    plain = {"method": "approx", "epochs": {"from": 1}}
    text = said(ruled("a", plain), ruled("b", plain | {"epochs": {"from": 2}}))
    assert "- `rules approx, epochs.from 1`: " in text
    assert "- `rules approx, epochs.from 2`: " in text
    text = said(ruled("a", plain), ruled("b", plain, {**plain, "path": "second", "order": 2}))
    assert "- `rules approx (a)`: " in text
    assert "- `rules approx (b)`: " in text


@pytest.mark.gate
def test_the_folder_has_all_of_it_the_same_each_time(two_seeds, tmp_path):
    for run in two_seeds:
        archive.write(tmp_path / f"runs/{run.name}.json", run)
    output.write([tmp_path / "runs"], tmp_path / "one")
    output.write(sorted((tmp_path / "runs").iterdir(), reverse=True), tmp_path / "two")
    one, two = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert one == two
    pictures = {
        f"figures/{name}.svg" for name in ("cnn2-loss", "cnn2-accuracy", "cnn2-accuracy-seconds", "pareto-cnn2")
    }
    assert {name for name in one if name.endswith(".svg")} == pictures
    rows = list(csv.DictReader(one["tables/cnn2.csv"].decode().splitlines()))
    assert [(row["schedule"], row["seeds"], row["failed"]) for row in rows] == [
        ("full", "0 1", ""),
        ("alternate random", "0", "seed 1 diverged at step 812"),
        ("alternate zero", "0 1", ""),
    ]
    assert float(rows[2]["seconds_to_threshold"]) == pytest.approx(6.5 * 390 * 0.09)
    assert json.loads(one["report.json"])["best"] == {"cnn2": "alternate zero"}
    last = list(csv.DictReader(one["figures/cnn2-accuracy-seconds.csv"].decode().splitlines()))[-1]
    assert (last["line"], float(last["training seconds"])) == ("alternate zero", pytest.approx(8 * 390 * 0.09))


def test_a_method_that_report_has_never_seen_is_drawn_in_its_colour_and_its_name_is_no_markup(make_run, tmp_path):
    class Sketched(Zero):
        name = "sketched"

    zero = make_run("cnn2-zero", epochs=2)
    runs = [zero, *(elsewhere(zero, schedule={"method": name}) for name in ("sketched", "<img src=x>|"))]
    for number, run in enumerate(runs):
        archive.write(tmp_path / f"{number}.json", run)
    with pytest.MonkeyPatch.context() as patch:
        known = all_methods() | {"sketched": Sketched}
        patch.setattr(drawing, "all_methods", lambda: known)
        output.write([tmp_path], tmp_path / "report")
    page, text = ((tmp_path / "report" / name).read_text("utf-8") for name in ("report.html", "report.md"))
    assert "| alternate <img src=x>\\| |" in text
    assert "alternate &lt;img src=x&gt;|</th>" in page
    assert "<img src=x" not in page
    drawn = (tmp_path / "report/figures/cnn2-loss.svg").read_text("utf-8")
    assert Sketched.colour in drawn
    assert drawing.UNKNOWN in drawn
    assert drawing.looks([("full", ""), ("zero", ""), ("zero", "")]) == [
        (drawing.INK, 0),
        *((Zero.colour, n) for n in (0, 1)),
    ]


def test_measurements_and_runs_that_have_not_begun_are_nothing_to_compare(make_run):
    measured = inputs.read([ROOT / "results/bench/step-cnn2-cpu.json"])
    made = replace(make_run("cnn2-zero", message="0 of 8 epochs", done=0), data={})
    for given in (measured, measured._replace(archives=[made])):
        with pytest.raises(ConfigError, match=r"no run here has begun.*--paper"):
            runs_report.compose(given)
    text = said(make_run("cnn2-full"), made)
    assert "`alternate zero`" not in text
