"""`approxtrain report`: runs as the paper's tables and figures, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Run folders, archives, the JSON of bench-step and bench-kernel, or folders that hold them.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report: new, empty, or that of an earlier one.")] = Path(
        "report"
    ),
) -> None:
    """Report runs beside the paper's tables and figures.

    Writes report.html, report.md, tables as CSV, and figures as PNG, SVG and CSV; docs/report.md says how to read them.

    \b
    approxtrain report runs --out report                              whatever is below runs/
    approxtrain report reproduction results/bench/step-*.json --out report
    """
    from approxtrain.report import output

    written = output.write(runs or [], out)
    document = written.document
    placed = f"{len(written.placed)} of {written.given} runs in the paper's rows"
    print(f"{placed}; tables {len(document.tables)}, pictures {len(document.pictures)}")
    print("rows: " + ", ".join(f"{count} {word}" for word, count in written.verdicts.items()))
    print(f"page      {out / 'report.html'}")
    print(f"markdown  {out / 'report.md'}")
