"""The folder of a report: report.md, report.html, report.json, tables/*.csv and figures/*.{svg,png,csv}.

The same runs give the same bytes: nothing in it knows the time or where it was made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from approxtrain import disk
from approxtrain.errors import ConfigError
from approxtrain.report import compose, inputs, markdown, page
from approxtrain.report.compose import Report
from approxtrain.report.document import Facts, as_csv
from approxtrain.report.verdict import RULE

REPORT = "report.json"
KIND, SCHEMA = "approxtrain report", 1


def write(paths: Sequence[Path], out: Path) -> Report:
    """Report the runs and measurements at `paths` in the folder `out`, an earlier report of ours there replaced.

    ConfigError where there is nothing to report, or `out` holds something else; DiskError where it cannot be written.
    """
    earlier = _earlier(out)
    report = compose.compose(inputs.read(paths))
    files = contents(report)
    with disk.explained(out):
        for name in files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():  # report.json first: what a kill leaves half written is known as ours
        disk.write(out / name, content)
    with disk.explained(out):
        for name in earlier - files.keys():
            (out / name).unlink(missing_ok=True)
    return report


def contents(report: Report) -> dict[str, str | bytes]:
    """File → what stands in it."""
    document = report.document
    files: dict[str, str | bytes] = {"report.md": markdown.render(document), "report.html": page.render(document)}
    for table in document.tables:
        files[table.path] = as_csv(table.records)
    for picture in document.pictures:
        stem = f"figures/{picture.name}"
        files |= {f"{stem}.svg": picture.svg, f"{stem}.png": picture.png, f"{stem}.csv": as_csv(picture.records)}
    names = [REPORT, *files]
    return {REPORT: json.dumps(_plain(_summary(report, names)), indent=1, allow_nan=False) + "\n", **files}


def _summary(report: Report, names: Sequence[str]) -> dict[str, Any]:
    facts = [block for section in report.document.sections for block in section.blocks if isinstance(block, Facts)]
    archives = {id(archive): archive for one in report.selections for archive in one.archives}
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "files": sorted(names),
        "protocol": {name: list(said) for box in facts for name, said in box.items},
        "rule": RULE,
        "verdicts": report.verdicts,
        "tables": {table.name: list(table.records) for table in report.document.tables},
        "runs": [
            {"name": one.name, "identity": one.identity, "seed": one.seed, "status": one.status}
            for one in archives.values()
        ],
    }


def _earlier(out: Path) -> set[str]:
    """The files of the report that `out` holds; none where it is empty. ConfigError where it holds something else."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"`{out}` is a file: give --out a folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return set()
    try:
        found = json.loads((out / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise ConfigError(f"`{out}` holds something that is no earlier report: give --out a new or empty folder.")
    # only what a report writes is ever taken away
    return {name for name in found["files"] if name.startswith(("tables/", "figures/")) and ".." not in name}


def _plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null, as in a table it is no number."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
