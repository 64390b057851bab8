"""Parts of pages of docs/ that commands write from results/; tests hold the pages to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOT_YET = "Not measured yet.\n"
END = "<!-- end of what is rendered -->\n"


class Part(NamedTuple):
    """What stands in a page between `<!-- rendered SOURCE -->` and `END`."""

    page: Path
    source: str

    @property
    def shown(self) -> str:
        return self._pieces()[1]

    def put(self, text: str) -> None:
        before, _, after = self._pieces()
        self.page.write_text(before + text + after, "utf-8")

    def _pieces(self) -> tuple[str, str, str]:
        begin = f"<!-- rendered {self.source} -->\n"
        text = self.page.read_text("utf-8")
        assert begin in text, f"{self.page} has no {begin}"
        before, _, rest = text.partition(begin)
        assert END in rest, f"{self.page} has no end of {begin}"
        shown, _, after = rest.partition(END)
        return before + begin, shown, END + after


def table(rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; the first row is the head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * (head.count("|") - 1), *body])
