"""What a run leaves behind in numbers.

`metrics.jsonl` is a pure function of configuration, seed and step: no clock goes into it, so the file of a
run that was killed and resumed equals that of an uninterrupted one byte for byte. `timing.jsonl` holds all
that a clock has touched. Both have one JSON object a line, each with `step`, the number of steps finished.
Numbers are written so that they read back exactly. JSON has no NaN and no infinity: these are the strings
"NaN", "Infinity" and "-Infinity", which Python's `float` reads.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, Self

from approxtrain.run.row_file import RowFile, Vouched, vouched_part
from approxtrain.run.row_file import rows as rows

METRICS, TIMING, SUMMARY = "metrics.jsonl", "timing.jsonl", "summary.json"


class Written(NamedTuple):
    """The rows that were written when the checkpoint of a step was saved, which vouches for them."""

    step: int
    metrics: Vouched
    timing: Vouched

    @classmethod
    def of_json(cls, value: Any) -> Self:
        """The same again, from the lists that JSON makes of it."""
        step, metrics, timing = value
        return cls(step, Vouched(*metrics), Vouched(*timing))


class Record:
    """Writes the rows of the run in `folder`.

    `written` is None for a new run, where no rows may be. For a resumed one it is what its checkpoint vouches for:
    what comes later in the files is removed. Raises CheckpointError, and changes nothing, where the rows are not there
    as they were.

    Write the rows of a step, then save `sync`'s answer in its checkpoint: no row that a checkpoint counts as written
    is lost without notice.
    """

    def __init__(self, folder: Path, written: Written | None = None) -> None:
        metrics, timing = folder / METRICS, folder / TIMING
        kept = vouched_part(metrics, written and written.metrics), vouched_part(timing, written and written.timing)
        self._metrics, self._timing = RowFile(metrics, kept[0]), RowFile(timing, kept[1])

    def row(self, *, kind: str, step: int, **values: Any) -> dict[str, Any]:
        """Append {"kind", "step", **values} to metrics.jsonl; returns this row."""
        row = {name: plain(value) for name, value in ({"kind": kind, "step": step} | values).items()}
        self._metrics.append(row)
        return row

    def timing(self, *, step: int, **values: Any) -> None:
        """Append {"step", **values} to timing.jsonl."""
        self._timing.append({name: plain(value) for name, value in ({"step": step} | values).items()})

    def sync(self, step: int) -> Written:
        """Flush the rows to the disk itself. → what a checkpoint of `step` is to vouch for."""
        return Written(step, self._metrics.vouch(), self._timing.vouch())

    def close(self) -> None:
        self._metrics.close()
        self._timing.close()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def plain(value: Any) -> Any:
    """`value` as JSON holds it: arrays as lists, their scalars as numbers, non-finite floats as strings."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and jax
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value) if isinstance(value, Path) else value
