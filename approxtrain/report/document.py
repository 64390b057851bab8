"""A report as Markdown, and as one page of HTML that fetches nothing.

What it says, and in what order, is in paper.md.jinja and runs.md.jinja. Their Markdown is headings, paragraphs, lists,
tables, pictures, **bold** and `code`; page.html.jinja reads nothing else.
"""

from __future__ import annotations

import csv
import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from approxtrain.report.estimates import NOTHING, counted, interval, signed
from approxtrain.run.archive import Archive

Records = Sequence[Mapping[str, Any]]
"""Rows of a table or points of a picture as numbers, the same keys in each; None where there is no number."""


class Picture(NamedTuple):
    """A panel, and the data behind it."""

    name: str
    """The name of its files under figures/."""
    alt: str
    """What it shows, for those who do not see it."""
    svg: bytes
    png: bytes
    records: Records


class Report(NamedTuple):
    """A document, and what it was made of."""

    document: Document
    said: str
    """What it comes to, for a terminal."""
    placed: Sequence[Archive]
    """The runs that stand in it."""
    facts: Mapping[str, Any]
    """What report.json says of it: the protocol of each table, and what was concluded."""


class Document:
    """A template filled with `context`.

    In it `show` puts pictures in their place, and `csv` keeps the numbers behind a table for a file of this name.
    """

    def __init__(self, template: str, context: Mapping[str, Any]) -> None:
        self.pictures: list[Picture] = []
        self.tables: dict[str, Records] = {}
        filters = {"counted": counted, "interval": interval, "signed": signed, "cell": _cell, "distinct": _distinct}
        text = _fill(template, filters, show=self._show, csv=self._csv, **context)
        self.markdown = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"

    @property
    def html(self) -> str:
        """The page, for a screen of any width, light or dark."""
        from markupsafe import Markup, escape

        def inline(text: str) -> Markup:
            bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
            return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", bold))

        drawn = {f"figures/{picture.name}.png": b64encode(picture.svg).decode() for picture in self.pictures}
        blocks = self.markdown.strip().split("\n\n")
        return _fill("page.html.jinja", {"inline": inline}, blocks=blocks, drawn=drawn)

    def _show(self, pictures: Sequence[Picture]) -> str:
        self.pictures += pictures
        return "\n".join(f"![{picture.alt}](figures/{picture.name}.png)" for picture in pictures)

    def _csv(self, name: str, records: Records) -> str:
        self.tables[name] = records
        return ""


def as_csv(records: Records) -> str:
    """Records as CSV: a line of names, floats so that they read back exactly, nothing for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys() if records else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _cell(value: Any, pattern: str = "%s") -> str:
    """The value as it stands in a table of Markdown."""
    if value is None:
        return NOTHING
    text = (pattern % value).replace("|", "\\|")
    return text if pattern == "%s" else text.replace("-", "−")


def _distinct(items: Iterable[Any], say: Callable[[Any], str]) -> str:
    """What is said of the items, each once."""
    return "; ".join(dict.fromkeys(filter(None, (say(item).strip("; \n") for item in items))))


def _fill(name: str, filters: Mapping[str, Any], **context: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("approxtrain.report", ""),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name).render(context)
