"""The examples of the pages for library users are run, one after the other, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["library.md"])
def test_the_code_of_a_page_runs_from_its_top_to_its_bottom(page):
    text = (ROOT / "docs" / page).read_text("utf-8")
    blocks = list(re.finditer(r"```python\n(.*?)```", text, flags=re.S))
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(ROOT / "docs" / page), "exec"), names)
    assert float(names["loss"]) > 0  # type: ignore[arg-type]
    assert [layer.path for layer in names["layers"]] == ["conv1", "conv2"]  # type: ignore[attr-defined]
