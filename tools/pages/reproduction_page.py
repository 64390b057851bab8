"""Renders docs/reproduction.md from results/: what stands between its two marks, and the pictures beside it.

With `--print` it prints what belongs between the marks, and writes nothing; a test holds the page to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from approxtrain.report import compose, inputs
from approxtrain.report.document import Document

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
    """The sections without pictures, or with those of SHOWN, from their folder beside the page."""
    _, *sections = document.markdown.split("\n## ")
    shown = [
        text for text in sections if "](figures/" not in text or any(f"](figures/{name}" in text for name in SHOWN)
    ]
    return "## " + "\n## ".join(shown).replace("](figures/", "](reproduction/")


def main() -> None:
    document = report()
    text = rendered(document)
    if "--print" in sys.argv:
        print(text, end="")
        return
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")
    PICTURES.mkdir(exist_ok=True)
    for picture in document.pictures:
        if picture.name.startswith(SHOWN):
            (PICTURES / f"{picture.name}.png").write_bytes(picture.png)


if __name__ == "__main__":
    main()
