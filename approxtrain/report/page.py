"""report.html: one file with everything in it, for a screen of any width, light or dark. Nothing is fetched."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from approxtrain.report.document import Block, Document, Picture
from approxtrain.report.drawing import COLOURS


def render(document: Document) -> str:
    """The page. Pictures are inline SVG, in the colours of the page."""
    import jinja2
    from markupsafe import Markup

    folder = resources.files("approxtrain.report")
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["inline"] = lambda text: Markup(_inline(text))
    environment.filters["svg"] = lambda picture: Markup(_svg(picture))
    environment.tests["kind"] = _is_kind
    style = Markup(folder.joinpath("page.css").read_text("utf-8"))
    template = environment.from_string(folder.joinpath("page.html").read_text("utf-8"))
    return template.render(document=document, style=style)


def _is_kind(block: Block, name: str) -> bool:
    return type(block).__name__ == name


def _inline(text: str) -> str:
    """**bold** and `code` as HTML, everything else as it stands."""
    from markupsafe import escape

    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)


def _svg(picture: Picture) -> str:
    """The drawing without what only a file of its own needs, ids that no other picture has, and colours by name."""
    text = picture.svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", text.replace("<svg  ", "<svg "), count=1)
    text = re.sub(r'\bid="', f'id="{picture.name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{picture.name}-", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(picture.alt)}"', 1)


def _attribute(text: Any) -> str:
    from markupsafe import escape

    return str(escape(text))
