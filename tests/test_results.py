"""The tables of README's "Measured" hold what the JSON under results/ holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
MEASURED = (ROOT / "README.md").read_text("utf-8").partition("## Measured")[2].partition("\n## ")[0]
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
    table = rows("step against `nnx.Conv`")
    assert len(table) == 2
    for name, plain, *ratios in table:
        found = result(f"bench/step-{name.strip('`')}-cpu")
        assert plain == f"{median(found['milliseconds']['plain']):.0f} ms"
        for contender, shown in zip(("ours", "loop", "switch", "schedule"), ratios, strict=True):
            ratio = found["ratio_to_plain"][contender]
            assert shown == f"{ratio['value']:.3f} ({ratio['low']:.3f}–{ratio['high']:.3f})"


def test_the_kernel_times_are_those_of_the_benchmark():
    table = rows("weight gradient")
    found = result("bench/kernel-paper-cpu")["rows"]
    assert len(table) == len(found) == 8
    for (shape, dense, method, speed, verdict), row in zip(table, found, strict=True):
        of, ratio = row["shape"], row["ratio"]
        assert shape == f"{of['in_channels']}→{of['out_channels']}, {of['height']}×{of['width']}"
        assert dense == f"{median(row['milliseconds']['dense']):.2f} ms"
        assert method == f"{median(row['milliseconds']['method']):.2f} ms"
        assert speed == f"{1 / ratio['value']:.2f} ({1 / ratio['high']:.2f}–{1 / ratio['low']:.2f})"
        assert verdict == ratio["verdict"]


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_where_it_was_measured_and_from_which_commit(path):
    environment = json.loads(path.read_text())["environment"]
    assert re.fullmatch(r"[0-9a-f]{40}", environment["git_commit"]), "measured from files that were not committed"
    assert {"device", "processor", "cpu_count", "versions", "xla_flags"} <= environment.keys()
    assert "/" not in environment["xla_flags"]
