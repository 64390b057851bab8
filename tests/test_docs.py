"""The examples of the pages for library users are run, one after the other, as a reader would."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(page: str) -> dict[str, object]:
    """The names that the Python code of a page leaves, run from its top to its bottom."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    blocks = list(re.finditer(r"```python\n(.*?)```", text, flags=re.S))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(ROOT / "docs" / page), "exec"), names)
    return names


def test_the_code_for_ones_own_training_loop_runs():
    names = run("library.md")
    assert float(names["loss"]) > 0  # type: ignore[arg-type]
    assert [layer.path for layer in names["layers"]] == ["conv1", "conv2"]  # type: ignore[attr-defined]


@pytest.mark.gate
def test_a_listener_of_ones_own_prints_the_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("training.md")
    printed = capsys.readouterr().out.splitlines()
    (row,) = (json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()[:1])
    assert [line.split()[0] for line in printed if "step/loss" in line] == ["1", "2"]
    assert any(line.startswith(f"2 {{'train/loss': {row['loss']}") for line in printed)
