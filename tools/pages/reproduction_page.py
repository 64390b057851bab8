"""Renders docs/reproduction.md from results/: what stands between its two marks, and the pictures beside it.

With `--print` it prints what belongs between the marks, and writes nothing; a test holds the page to it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from approxtrain.report import compose, inputs, markdown
from approxtrain.report.document import Document, Figure, Section

ROOT = Path(__file__).resolve().parents[2]
PAGE, PICTURES = ROOT / "docs/reproduction.md", ROOT / "docs/reproduction"
BEGIN, END = "<!-- rendered from results/ -->\n", "<!-- end of what is rendered -->\n"
SHOWN = ("figure5", "figure6", "pareto")
"""The figures whose panels stand on the page; `approxtrain report` has them all."""


def report() -> Document:
    bench = ROOT / "results/bench"
    kernels = [bench / "kernel-paper-cpu.json", ROOT / "results/gpu/h100/table1-tf32.json"]
    paths = [ROOT / "results/reproduction", *sorted(bench.glob("step-*.json")), *kernels]
    return compose.compose(inputs.read(paths)).document


def rendered(document: Document) -> str:
    """Sections as Markdown, one level down, with the pictures of SHOWN from their folder beside the page."""
    sections = [_shown(section) for section in document.sections]
    text = markdown.render(Document("", tuple(section for section in sections if section.blocks)))
    return text.partition("\n\n")[2].replace("](figures/", "](reproduction/")


def _shown(section: Section) -> Section:
    blocks = tuple(block for block in section.blocks if section.name in SHOWN or not isinstance(block, Figure))
    return replace(section, blocks=blocks)


def main() -> None:
    document = report()
    text = rendered(document)
    if "--print" in sys.argv:
        print(text, end="")
        return
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")
    PICTURES.mkdir(exist_ok=True)
    for section in document.sections:
        for block in section.blocks:
            for picture in block.pictures if section.name in SHOWN and isinstance(block, Figure) else ():
                (PICTURES / f"{picture.name}.png").write_bytes(picture.png)


if __name__ == "__main__":
    main()
