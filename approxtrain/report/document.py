"""A report before it is rendered: sections of paragraphs, lists, tables and figures.

Text may hold **bold** and `code`; nothing else of Markdown. One document becomes report.md and report.html.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """A box of names with what is to be said of each."""

    items: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Cell:
    text: str
    kind: str = ""
    """How the page shows it: "agrees", "differs", "inconclusive", "missing", "partial" (some runs are), or plain."""
    note: str = ""
    """What is said smaller, below it."""


@dataclass(frozen=True)
class Table:
    """A table as it is read, and its numbers as they are computed with."""

    name: str
    """Of its CSV file under tables/."""
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    records: tuple[Mapping[str, Any], ...]
    """The same keys in each; None where there is no number."""

    @property
    def path(self) -> str:
        return f"tables/{self.name}.csv"


@dataclass(frozen=True)
class Picture:
    """A panel of a figure: drawn, and the data behind it."""

    name: str
    """Of its files under figures/."""
    alt: str
    """What it shows, for who does not see it."""
    svg: bytes
    png: bytes
    records: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Figure:
    caption: str
    pictures: tuple[Picture, ...]


Block = Paragraph | Bullets | Facts | Table | Figure


@dataclass(frozen=True)
class Section:
    name: str
    """The anchor of the page."""
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    title: str
    sections: tuple[Section, ...]

    @property
    def tables(self) -> list[Table]:
        return [block for block in self._blocks if isinstance(block, Table)]

    @property
    def pictures(self) -> list[Picture]:
        return [picture for block in self._blocks if isinstance(block, Figure) for picture in block.pictures]

    @property
    def _blocks(self) -> list[Block]:
        return [block for section in self.sections for block in section.blocks]


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV: a line of names, floats so that they read back exactly, nothing for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys() if records else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
