"""`approxtrain report`: what it prints and writes, how it ends, and what it does not import."""

from __future__ import annotations

import pytest

from approxtrain.run import archive


@pytest.fixture
def runs(make_run, tmp_path):
    for name in ("cnn2-full", "cnn2-zero"):
        archive.write(tmp_path / f"runs/{name}.json", make_run(name))
    archive.write(tmp_path / "runs/short.json", make_run("cnn2-full", epochs=3))
    return tmp_path / "runs"


def test_it_says_what_comes_of_the_runs_and_where_the_page_is(call, runs, tmp_path):
    ended = call("report", runs, "--out", tmp_path / "report")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(
        "cnn2 on cifar10-jpeg75, 8 epochs\n\nExact training was first to 89.5 % validation accuracy (0.5 points below "
        "the best of exact training; one seed: no statement which is best), after 273 s of training."
    )
    assert f"page      {tmp_path / 'report/report.html'}" in ended.out
    assert (tmp_path / "report/report.html").is_file()


def test_beside_the_paper_it_says_how_many_runs_have_a_place_there(call, runs, tmp_path):
    ended = call("report", "--paper", runs, "--out", tmp_path / "report")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(
        "2 of 3 runs in the paper's rows\nrows: 0 agrees, 0 differs, 1 inconclusive, 3 not run\n"
    )
    assert "## Table 2." in (tmp_path / "report/report.md").read_text("utf-8")


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["."]])
def test_nothing_to_report_is_an_error_of_the_user_s(call, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    ended = call("report", *arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert not (tmp_path / "report").exists()


def test_a_folder_of_something_else_is_left_alone(call, runs, tmp_path):
    ended = call("report", runs, "--out", runs)
    assert ended.code == 2
    assert "new or empty folder" in ended.err
