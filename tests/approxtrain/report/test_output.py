"""A whole report of made runs beside the paper: its files, its page, its figures, and that it is the same each time."""

from __future__ import annotations

import csv
import json
import re
import shutil
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from approxtrain.errors import ConfigError
from approxtrain.report import output
from approxtrain.run import archive

NAMES = ("cnn2-full", "cnn2-zero", "cnn2-random", "cnn2-approx-paper", "cnn2-approx", "cnn2-pooled")
EMPTY = {"meta", "img"}


def probe(epoch: int, layer: int, cosine: float, method: str = "approx") -> dict:
    values = {"cosine": cosine, "norm_ratio": 1.5, "sign_disagreement": 0.3, "dead_planes": float("nan")}
    return {
        "kind": "probe",
        "step": 390 * epoch,
        "epoch": epoch,
        "layer": layer,
        "path": "",
        "method": method,
        **values,
    }


@pytest.fixture(scope="module")
def runs(make_run, tmp_path_factory) -> Path:
    """Table 2 with two seeds; one run diverged, one was probed, and one is of three epochs."""
    root = tmp_path_factory.mktemp("runs")
    for at, name in enumerate(NAMES):
        for seed in (0, 1):
            run = make_run(name, seed, best=0.7 - 0.004 * at + 0.003 * seed, step_ms=190 - 4 * at)
            if name == "cnn2-approx":
                probes = [probe(epoch, layer, 0.5 - 0.1 * layer) for epoch in (1, 8) for layer in (1, 2)]
                run = replace(run, probes=probes)
            if (name, seed) == ("cnn2-random", 1):
                run = make_run(name, seed, message="diverged at step 812: the loss is nan", done=2)
            archive.write(root / f"{name}-{seed}.json", run)
    archive.write(root / "short.json", make_run("cnn2-full", 0, epochs=3))
    return root


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "report"
    output.write([runs], out, paper=True)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.gate
def test_the_same_runs_give_the_same_bytes_in_whatever_order_they_come(runs, written, tmp_path):
    files = sorted(runs.glob("*.json"), reverse=True)
    output.write(files, tmp_path / "again", paper=True)
    again, first = contents(tmp_path / "again"), contents(written)
    assert again.keys() == first.keys()
    assert [name for name, content in first.items() if content != again[name]] == []


def test_every_table_and_picture_is_a_file_and_has_its_data_beside_it(written):
    found = set(contents(written))
    assert {"report.md", "report.html", "report.json", "tables/table2.csv"} <= found
    pictures = {name.removesuffix(".svg") for name in found if name.endswith(".svg")}
    assert {"figures/figure5-loss", "figures/figure5-accuracy", "figures/pareto-cnn2"} <= pictures
    assert {f"{name}{kind}" for name in pictures for kind in (".png", ".csv")} <= found
    assert json.loads((written / "report.json").read_text())["files"] == sorted(found)


def test_the_csv_holds_the_numbers_of_the_table(written):
    with (written / "tables/table2.csv").open(encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    zero, random = rows["cnn2-zero"], rows["cnn2-random"]
    assert float(zero["best_accuracy"]) == pytest.approx(69.75)
    assert float(zero["difference"]) == pytest.approx(-0.4)
    assert (zero["paper_difference"], zero["best_accuracy_n"], zero["verdict"]) == ("-0.2", "2", "inconclusive")
    assert random["failed"] == "seed 1 diverged at step 812"
    assert random["difference_low"] == ""  # one pair has no interval


def test_the_curves_are_means_over_the_seeds_with_their_range(written):
    with (written / "figures/figure5-accuracy.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["line"] == "zero"]
    assert len(rows) == 8
    last = {key: float(rows[-1][key]) for key in ("epoch", "mean", "low", "high", "n")}
    assert last == pytest.approx({"epoch": 8, "mean": 69.75, "low": 69.6, "high": 69.9, "n": 2})


def test_probes_are_drawn_and_what_is_not_a_number_is_left_out(written):
    with (written / "figures/gradient-cnn2-cosine-layer.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["mean"]) for row in rows] == [("1.0", "0.4"), ("2.0", "0.3")]
    assert not (written / "figures/gradient-cnn2-dead-planes-layer.csv").exists()


@pytest.mark.parametrize("paper", [True, pytest.param(False, marks=pytest.mark.gate)])
def test_the_page_fetches_nothing_and_is_well_formed(runs, tmp_path, paper):
    output.write([runs], tmp_path / "report", paper=paper)
    page = (tmp_path / "report/report.html").read_text("utf-8")
    outside = re.sub(r'src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+"', "src", page)
    assert re.findall(r"https?:|//[a-z]|@import|<script|src=", outside) == []
    opened: list[str] = []

    class Check(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in EMPTY:
                opened.append(tag)

        def handle_endtag(self, tag):
            if tag not in EMPTY:
                assert opened.pop() == tag

    Check().feed(page)
    assert opened == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) == page.count("<h2")
    assert re.findall(r'href="#([^"]+)', page) == ids


def test_the_page_shows_every_table_and_picture_of_the_markdown(written):
    page, text = ((written / name).read_text("utf-8") for name in ("report.html", "report.md"))
    assert page.count("<img") == text.count("](figures/") == len(list(written.glob("figures/*.svg")))
    assert page.count("<table>") == text.count("| --- |\n")
    assert page.count("<tr>") == len(re.findall(r"^\|(?! ---)", text, re.MULTILINE))
    assert '<td class="not-in-the-paper">not in the paper</td>' in page
    assert '<td class="missing">69.20 <small>(n = 1) (seed 1 diverged at step 812)</small></td>' in page
    drawn = (b64decode(code) for code in re.findall(r"base64,([^\"]+)", page))
    assert set(drawn) == {path.read_bytes() for path in written.glob("figures/*.svg")}


def test_the_head_says_what_is_not_the_paper_s(written):
    text = (written / "report.md").read_text("utf-8")
    assert "- epochs: Table 2: 8\n" in text
    assert "Table 2: 8 in place of about 500." in text
    assert "`cifar10-jpeg75`, whose bytes are not those of the official CIFAR-10." in text
    assert "SHAPES" not in text


def test_drawn_images_are_called_so(make_run, tmp_path):
    run = make_run("cnn2-zero", epochs=1, data="shapes", overrides=("train.batch_size=64",))
    archive.write(tmp_path / "run.json", run)
    output.write([tmp_path / "run.json"], tmp_path / "drawn", paper=True)
    text = (tmp_path / "drawn/report.md").read_text("utf-8")
    assert "**SHAPES: drawn by the program, not CIFAR-10**" in text
    assert "nothing here says anything about the paper**; `train.batch_size` is 64, the paper's 128." in text


def test_the_end_lists_every_row_by_its_verdict(written):
    end = (written / "report.md").read_text("utf-8").partition("## What agrees")[2]
    undecided = end.partition("**Cannot be told yet**")[2].partition("**Not run**")[0]
    assert "Table 2, Random Gradient: the paper +0.80 points to full" in undecided
    assert "seed 1 diverged at step 812" in undecided
    assert "Table 4. Speed-up and accuracy loss, VGG-19: no run was given" in end
    assert json.loads((written / "report.json").read_text())["verdicts"]["not run"] == 0


def test_an_earlier_report_is_replaced_with_nothing_of_it_left(written, make_run, tmp_path):
    out = Path(shutil.copytree(written, tmp_path / "report"))
    (out / "mine.txt").write_text("kept")
    archive.write(tmp_path / "other.json", make_run("resnet20-full", epochs=1))
    output.write([tmp_path / "other.json"], out, paper=True)
    found = set(contents(out))
    assert "mine.txt" in found
    assert not any("cnn2" in name or "table2" in name or "figure5" in name for name in found)
    assert found - {"mine.txt"} == set(json.loads((out / "report.json").read_text())["files"])


def test_what_is_not_ours_is_not_written_over(runs, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="new or empty folder"):
        output.write([runs], tmp_path)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(ConfigError, match="new or empty folder"):
        output.write([runs], tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        output.write([runs], tmp_path / "thesis.tex")
    assert set(contents(tmp_path)) == {"thesis.tex", "report.json"}
