"""`approxtrain report`: runs held against each other, or against the paper, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Run folders, archives, or folders that hold them; with --paper the JSON of bench-step and "
            "bench-kernel as well.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report: new, empty, or that of an earlier one.")] = Path(
        "report"
    ),
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's tables and figures, with your runs in them.")
    ] = False,
) -> None:
    """Compare your runs: which schedule was best for the time, and what each cost against exact training.

    Writes report.html, report.md, tables as CSV, and figures as PNG, SVG and CSV; docs/report.md says how to read them.

    \b
    approxtrain report runs --out report                                      whatever is below runs/
    approxtrain report --paper reproduction results/bench/step-*.json         beside the paper
    """
    from approxtrain.report import output

    print(output.write(runs or [], out, paper=paper).said)
    print(f"\npage      {out / 'report.html'}")
    print(f"markdown  {out / 'report.md'}")
