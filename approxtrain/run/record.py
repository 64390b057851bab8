"""What a run leaves behind in numbers.

`metrics.jsonl` is a pure function of configuration, seed and step: no clock goes into it, so the file of a
run that was killed and resumed equals that of an uninterrupted one byte for byte. `timing.jsonl` holds all
that a clock has touched. Both have one JSON object a line, each with `step`, the number of steps finished.
Numbers are written so that they read back exactly. JSON has no NaN and no infinity: these are the strings
"NaN", "Infinity" and "-Infinity", which Python's `float` reads.

TensorBoard gets a copy of the metric rows, as `kind/name` against step; of rows that bear a layer with its method, or a
seed, as `kind/name/layer 2/method approx/seed 3`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from approxtrain import disk
from approxtrain.run import host_memory

METRICS, TIMING, SUMMARY, TENSORBOARD = "metrics.jsonl", "timing.jsonl", "summary.json", "tensorboard"
_SERIES = ("layer", "method", "seed")


class Record:
    """Writes the rows of the run in `folder`.

    `resume_step` is None for a new run, which starts with empty files. For a resumed one it is the step of
    the checkpoint it goes on from (0 where there is none): rows of later steps, and a last line cut short,
    are removed.

    Write the rows of a step, then `sync`, then save its checkpoint: no row that a checkpoint counts as
    written is lost.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        self._folder = folder
        self._purge_step = None if resume_step is None else resume_step + 1
        self._tensorboard: Any = None
        for name in (METRICS, TIMING):
            _cut(folder / name, resume_step)
        with disk.explained(folder / METRICS):
            self._metrics = (folder / METRICS).open("a", encoding="utf-8")
            self._timing = (folder / TIMING).open("a", encoding="utf-8")

    def row(self, *, kind: str, step: int, **values: Any) -> None:
        """Append {"kind", "step", **values} to metrics.jsonl; the numbers go to TensorBoard as well."""
        row = {name: plain(value) for name, value in ({"kind": kind, "step": step} | values).items()}
        self._append(self._metrics, row)
        writer = self._writer()
        series = "".join(f"/{name} {row[name]}" for name in _SERIES if name in row)
        for name, value in row.items():
            if name not in ("step", *_SERIES) and isinstance(value, int | float):
                writer.add_scalar(f"{kind}/{name}{series}", value, row["step"])

    def timing(self, *, step: int, **values: Any) -> None:
        """Append {"step", **values} to timing.jsonl."""
        self._append(self._timing, {name: plain(value) for name, value in ({"step": step} | values).items()})

    def sync(self) -> None:
        """Flush the rows to the disk itself, so that a power cut cannot part them from a checkpoint."""
        for file in (self._metrics, self._timing):
            with disk.explained(Path(file.name)):
                os.fsync(file.fileno())

    def close(self) -> None:
        self._metrics.close()
        self._timing.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _append(self, file: IO[str], row: dict[str, Any]) -> None:
        with disk.explained(Path(file.name)):
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()

    def _writer(self) -> Any:
        """The TensorBoard writer; a resumed run hides what was written after the checkpoint."""
        if self._tensorboard is None:
            from tensorboardX import SummaryWriter

            with disk.explained(self._folder / TENSORBOARD):
                self._tensorboard = SummaryWriter(
                    str(self._folder / TENSORBOARD),
                    purge_step=self._purge_step,
                    filename_suffix=f".{self._purge_step or 0:08d}",  # else two of one second clash
                )
        return self._tensorboard


def summary(folder: Path, values: dict[str, Any]) -> Path:
    """Write `values` as summary.json, readable and in one step; returns its path."""
    disk.write_json(folder / SUMMARY, plain(values))
    return folder / SUMMARY


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, without a last line that was cut short; none where there is no file."""
    return [row for _, row in _lines(path)]


def versions() -> dict[str, str]:
    """Package → version, of all that a number may depend on."""
    import approxtrain

    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"approxtrain": approxtrain.__version__} | {name: metadata.version(name) for name in packages}


def environment() -> dict[str, Any]:
    """Where a number was measured: device, machine, versions, flags, commit. Starts jax's backend."""
    import jax

    from approxtrain_kernels import native

    devices = jax.devices()
    return {
        "device": devices[0].device_kind,
        "device_platform": devices[0].platform,
        "device_count": len(devices),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "cpu_convolutions": f"our own for float32, {native.described()}" if native.available() else "XLA",
        "freed_memory_kept": host_memory.kept,
        "git_commit": _git_commit(),
    }


def place(environment: dict[str, Any]) -> dict[str, Any]:
    """The part of an environment that must be the same for a resumed run to repeat the bits."""
    names = ("device", "device_count", "processor", "cpu_count", "python", "versions", "xla_flags")
    return {name: environment[name] for name in names}


def _processor() -> str:
    """The processor's own name; on Linux `platform.processor` knows only the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git_commit() -> str | None:
    """The commit this package runs from, "-dirty" added where files differ; None outside a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _cut(path: Path, step: int | None) -> None:
    """Keep the whole lines of `path` up to `step`."""
    kept = b"".join(line for line, row in _lines(path) if step is not None and row["step"] <= step)
    if path.exists() and path.read_bytes() != kept:
        disk.write(path, kept)


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """(line, row) of the whole lines; what a kill or a power cut left unreadable is passed over."""
    found = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(row, dict) and isinstance(row.get("step"), int):
            found.append((line, row))
    return found


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
