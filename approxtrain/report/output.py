"""The folder of a report: report.md, report.html, report.json, tables/*.csv and figures/*.{svg,png,csv}.

The same runs give the same bytes: nothing in it knows the time or where it was made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from approxtrain import disk
from approxtrain.errors import ConfigError
from approxtrain.report import inputs, paper_report, runs_report
from approxtrain.report.document import Report, as_csv
from approxtrain.run.record import plain

REPORT = "report.json"
KIND = "approxtrain report"


def write(paths: Sequence[Path], out: Path, *, paper: bool = False) -> Report:
    """Report the runs and measurements at `paths` in the folder `out`, an earlier report of ours there replaced: held
    against each other, or beside the paper.

    ConfigError where there is nothing to report, or `out` holds something else; DiskError where it cannot be written.
    """
    earlier = _earlier(out)
    report = (paper_report if paper else runs_report).compose(inputs.read(paths))
    files = _contents(report)
    for name, content in files.items():  # report.json first: what a kill leaves half written is known as ours
        with disk.explained(out):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
        disk.write(out / name, content)
    with disk.explained(out):
        for name in earlier - files.keys():
            (out / name).unlink(missing_ok=True)
    return report


def _contents(report: Report) -> dict[str, str | bytes]:
    """File → what stands in it."""
    document = report.document
    files: dict[str, str | bytes] = {"report.md": document.markdown, "report.html": document.html}
    files |= {f"tables/{name}.csv": as_csv(records) for name, records in document.tables.items()}
    for picture in document.pictures:
        stem = f"figures/{picture.name}"
        files |= {f"{stem}.svg": picture.svg, f"{stem}.png": picture.png, f"{stem}.csv": as_csv(picture.records)}
    summary = {
        "kind": KIND,
        "schema": 1,
        "files": sorted([REPORT, *files]),
        **report.facts,
        "tables": document.tables,
        "runs": [{key: getattr(each, key) for key in ("name", "identity", "seed", "status")} for each in report.placed],
    }
    return {REPORT: json.dumps(plain(summary), indent=1, allow_nan=False) + "\n", **files}


def _earlier(out: Path) -> set[str]:
    """The files of the report that `out` holds; none where it is empty. ConfigError where it holds something else."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"`{out}` is a file: give --out a folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return set()
    try:
        summary = json.loads((out / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        summary = None
    if not isinstance(summary, dict) or summary.get("kind") != KIND:
        raise ConfigError(f"`{out}` holds something that is no earlier report: give --out a new or empty folder.")
    # only what a report writes is ever taken away
    return {name for name in summary["files"] if name.startswith(("tables/", "figures/")) and ".." not in name}
