"""The tables of docs/measured.md hold what the JSON under results/ holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median

import pytest

from approxtrain.config import Config, load
from approxtrain.run import archive
from tools import arms, methods, pages, predicted_times, predictor, replicas, worths
from tools.frontier import page, times
from tools.frontier.families import COMMANDS, FAMILIES

ROOT = Path(__file__).parents[2]
MEASURED = (ROOT / "docs/measured.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in MEASURED.splitlines() if line.startswith("|")]


def result(name: str) -> dict:
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def rows(first: str) -> list[list[str]]:
    """The rows of the table whose first header is `first`."""
    start = next(number for number, row in enumerate(ROWS) if row[0] == first) + 2
    width = len(ROWS[start])
    table = []
    for row in ROWS[start:]:
        if len(row) != width:
            break
        table.append(row)
    return table


def test_the_accuracies_are_those_of_the_runs():
    table = rows("run")
    assert len(table) >= 5
    for name, images, epochs, accuracy, step in table:
        summary = result(f"train/{name.strip('`')}")
        assert (images, int(epochs)) == (summary["data"]["name"], summary["epochs"])
        assert accuracy == f"{summary['final_accuracy']:.2%}".replace("%", " %")
        assert step == f"{summary['step_ms']['median']:.0f} ms"


def test_the_step_times_are_those_of_the_benchmark():
    exact, *_, brief = pages.performance()
    assert exact in MEASURED
    assert brief in MEASURED


def test_the_page_of_the_steps_is_what_is_rendered():
    page = (ROOT / "docs/performance.md").read_text("utf-8")
    tables = pages.performance()[:-1]  # the last is that of measured.md
    assert len(tables) == 6
    assert [table for table in tables if table not in page] == []


def test_the_kernel_times_are_those_of_the_benchmark():
    table = rows("weight gradient")
    approx, pooled = (result(f"bench/kernel-{name}-cpu")["rows"] for name in ("paper", "pooled-paper"))
    assert len(table) == len(approx) == len(pooled) == 8
    for (shape, torch, exact, method, speed, other, other_speed), one, two in zip(table, approx, pooled, strict=True):
        of, taken = one["shape"], one["milliseconds"]
        assert shape == f"{of['in_channels']}→{of['out_channels']}, {of['height']}×{of['width']}"
        assert of == two["shape"]
        best = min(median(samples) for name, samples in taken.items() if name.startswith("torch"))
        times = (best, median(taken["dense"]), median(taken["method"]), median(two["milliseconds"]["method"]))
        assert (torch, exact, method, other) == tuple(f"{time:.2f} ms" for time in times)
        assert (speed, other_speed) == (faster(one["ratio"]), faster(two["ratio"]))


def faster(ratio: dict) -> str:
    text = f"{1 / ratio['value']:.2f} ({1 / ratio['high']:.2f}–{1 / ratio['low']:.2f})"
    return text if ratio["verdict"] == "FASTER" else f"{text} {ratio['verdict']}"


def test_the_page_of_the_cpu_is_what_is_rendered():
    page = (ROOT / "docs/cpu.md").read_text("utf-8")
    assert [table for table in pages.cpu() if table not in page] == []


MEASURED_WHILE_NEW = ("cuts", "throughput", "throughput-graph")
"""By stages of gpu-bench that were committed right after: a GPU was there for 15 minutes only."""


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_where_it_was_measured_and_from_which_commit(path):
    environment = json.loads(path.read_text())["environment"]
    new = "-dirty" if path.stem in MEASURED_WHILE_NEW else ""
    assert re.fullmatch(rf"[0-9a-f]{{40}}{new}", environment["git_commit"]), (
        "measured from files that were not committed"
    )
    assert {"device", "processor", "cpu_count", "versions", "xla_flags"} <= environment.keys()
    assert "/" not in environment["xla_flags"]


def test_the_page_of_the_reliability_is_what_is_rendered():
    assert pages.RELIABILITY.shown.strip() == pages.reliability()


@pytest.mark.long
def test_the_page_of_the_reproduction_is_what_is_rendered():
    page = (ROOT / "docs/reproduction.md").read_text("utf-8")
    rendered = pages.reproduction(pages.report()).strip()
    assert rendered.startswith("## ")
    assert rendered in page


def test_the_numbers_of_the_page_of_the_h100_are_those_of_its_results():
    page = (ROOT / "docs/gpu-h100.md").read_text("utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    expected = []
    for row in result("gpu/h100/table1-tf32")["rows"]:
        dense, method = (1e3 * median(row["milliseconds"][name]) for name in ("dense", "method"))
        layout = 1e3 * median(row["layout_milliseconds"]["method"])
        expected += [] if row["failed"] else [f"{dense:.1f}", f"{method + layout:.1f}"]
    for row in result("gpu/h100/forms")["rows"]:
        forms = [form["kernels_us"] for form in row["forms"].values() if "failed" not in form]
        expected += [f"{sum(us for _, us in kernels):.1f}" for kernels in forms]
    for row in result("gpu/h100/steps")["rows"]:
        expected += [f"{median(row['milliseconds']['full']):.3f}"]
    for row in result("gpu/h100/throughput")["rows"]:
        expected += [f"{rate:,.0f}" for rate in row["images_a_second"].values()]
    expected += [f"{most:.1e}" for row in result("bench/drift-cpu")["rows"] for most in row["largest"].values()]
    cells = {cell for line in lines for cell in line}
    assert [number for number in expected if number not in cells] == []


def test_the_speed_of_a_stream_is_what_was_measured():
    rows = result("bench/stream-cpu")["rows"]
    page = " ".join((ROOT / "docs/data.md").read_text("utf-8").split())
    assert [row["workers"] for row in rows] == [0, 1, 2]
    alone = [f"{round(row['reader_images_per_second'], -1):,.0f}" for row in rows]
    trained = [f"{row['images_per_second']:.0f}" for row in rows]
    assert (
        "the reader alone brings {} images a second in the process itself, {} by one worker, {} by two".format(*alone)
        in page
    )
    waited = max(row["data_wait_seconds"] for row in rows)
    assert "training takes {}, {} and {}, and its 60 steps".format(*trained) in page
    assert f"waited {waited:.2f} s in all" in page


@pytest.mark.parametrize("network", FAMILIES)
def test_the_page_of_the_frontier_is_what_is_rendered(network):
    assert page.part(network).shown == page.text(network)


@pytest.mark.parametrize("network", worths.NETWORKS)
def test_the_worth_of_methods_is_what_is_rendered(network):
    assert worths.part(network).shown == worths.text(network)


def test_the_judgement_of_the_predictions_is_what_is_rendered():
    assert predictor.PART.shown == predictor.page()


def test_the_times_that_were_predicted_are_what_is_rendered():
    assert predicted_times.PART.shown == predicted_times.page()


def test_the_times_of_the_methods_are_what_is_rendered():
    assert methods.PART.shown == methods.page()


@pytest.mark.parametrize(
    ("results", "commands"), [(times.RESULTS, COMMANDS), (replicas.RESULTS, replicas.COMMANDS)], ids=["frontier", ""]
)
def test_what_was_trained_is_what_its_arm_says(results, commands):
    for path in sorted(results.rglob("*-seed*.json")):
        name, seed = str(path.relative_to(results).with_suffix("")).rsplit("-seed", 1)
        preset, *overrides = commands[name]
        found = Config.model_validate(archive.read(path).config)
        arms.refuse_another(found, load(preset, [*overrides, f"train.seed={seed}"]), path)


def test_the_accuracies_on_several_devices_are_what_is_rendered():
    assert replicas.PART.shown == replicas.page()
