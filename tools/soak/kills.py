"""`approxtrain train` killed by signal 9 at random moments and resumed, and compared to a run that nobody touched."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from approxtrain.run import checkpoint, record, row_file

ROOT = Path(__file__).resolve().parents[2]
COMMON = ("data.limit=256", "train.batch_size=32", "train.epochs=3", "train.checkpoint_every=1", "model.name=cnn5")
VARIANTS = (
    ("train.chunk=1",),
    ("train.chunk=2", "train.checkpoint_every=2", "optimizer.learning_rate=0.001"),
    ("train.chunk=1", "train.seeds=2", "schedule.method=pooled"),
    ("train.chunk=1", "data.stream=true", "data.workers=0"),
)
"""Of one configuration with a checkpoint every step, so that many kills fall into a save."""
PATIENCE = 300.0
"""Seconds after which a process is taken for hanging."""


@dataclass(frozen=True)
class Ended:
    """A process of `train`: how it ended, and what it said."""

    code: int | None
    """None: it hung."""
    said: str
    seconds: float


def chain(seed: int, kills: int, work: Path) -> dict[str, Any]:
    """A run that is killed `kills` times, then resumed to its end. → counts, and what was lost."""
    draw, variant = random.Random(f"kills {seed}"), seed % len(VARIANTS)
    whole, seconds = _uninterrupted(variant, work)
    folder = work / f"killed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    found = {"kills": 0, "kills_in_a_save": 0, "tracebacks": 0, "hangs": 0, "bytes_lost": 0, "lost": []}
    step = -1
    for number in range(3 * kills + 1):  # a run that is done before it can be killed counts for none
        last = found["kills"] == kills or number == 3 * kills
        before = _unfinished(folder)
        ended = _launch(variant, folder, draw, None if last else seconds)
        found["tracebacks"] += "Traceback" in ended.said
        found["hangs"] += ended.code is None
        if ended.code not in (0, None, -signal.SIGKILL):
            found["lost"].append(f"kill {number}: exit code {ended.code}: {ended.said[-500:]}")
        if ended.code == -signal.SIGKILL:
            found["kills"] += 1
            found["kills_in_a_save"] += bool(_unfinished(folder) - before)
        step, bytes_lost = _judge(folder, whole, step, found["lost"])
        found["bytes_lost"] += bytes_lost
        if ended.code == 0 and not last:  # it was done before it could be killed: another one
            shutil.rmtree(folder)
            step = -1
        if last:
            break
    found["bytes_lost"] += _compare(folder, whole, found["lost"])
    if not found["lost"]:
        shutil.rmtree(folder)
    return found


def _uninterrupted(variant: int, work: Path) -> tuple[Path, float]:
    """The folder of the run that nobody touches, and the seconds that it took."""
    folder, clock = work / f"whole-{variant}", work / f"whole-{variant}.seconds"
    if not clock.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        ended = _launch(variant, folder, random.Random(0), None)
        if ended.code != 0:
            raise RuntimeError(f"the run that is compared to did not end well: {ended}")
        clock.write_text(str(ended.seconds))
    return folder, float(clock.read_text())


def _launch(variant: int, folder: Path, draw: random.Random, until: float | None) -> Ended:
    """Start or resume the run; kill it before `until` seconds are over, at any moment or while it saves."""
    resumed = (folder / "config.toml").is_file()
    what = ["--resume", str(folder)] if resumed else ["quickstart", *COMMON, *VARIANTS[variant], "--out", str(folder)]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "cli", ROOT / "kernels")))
    begin = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "approxtrain_cli", "train", *what],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": paths},
        text=True,
    ) as process:
        try:
            if until is not None:
                _wait(process, folder, draw, until)
                process.send_signal(signal.SIGKILL)
            said, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return Ended(None, process.communicate()[0], time.monotonic() - begin)
    return Ended(process.returncode, said, time.monotonic() - begin)


def _wait(process: subprocess.Popen[str], folder: Path, draw: random.Random, until: float) -> None:
    """Till a moment drawn from the length of a run; in two cases of three on till a later moment of some save."""
    end = time.monotonic() + draw.uniform(0, until)
    saves = draw.choice([0, draw.randint(1, 4), draw.randint(1, 12)])
    delay = draw.uniform(0, 0.015)
    while process.poll() is None and time.monotonic() < end and not saves:
        time.sleep(0.001)
    seen = ""
    end = time.monotonic() + 2 * until
    while process.poll() is None and saves and time.monotonic() < end:
        now = next((path.name for path in folder.glob("checkpoints/.tmp-*")), "")
        saves -= bool(now) and now != seen
        seen = now or seen
        time.sleep(delay if not saves else 0.0005)


def _unfinished(folder: Path) -> set[tuple[str, int]]:
    """The checkpoints that are being written, or were when the process ended."""
    return {(path.name, path.stat().st_mtime_ns) for path in folder.glob("checkpoints/.tmp-*")}


def _judge(folder: Path, whole: Path, before: int, lost: list[str]) -> tuple[int, int]:
    """(newest step, bytes of rows lost) after a kill: what was saved is still there, and vouches for rows that are."""
    try:
        if not any((folder / "checkpoints").glob("step-*")):
            if before >= 0:
                lost.append(f"there is no checkpoint, and there was one of step {before}")
            return before, 0
        _, meta = checkpoint.load_arrays(folder / "checkpoints")
        written = record.Written.of_json(meta["rows"])
        rows = row_file.vouched_part(folder / record.METRICS, written.metrics)
        row_file.vouched_part(folder / record.TIMING, written.timing)
    except Exception as error:
        lost.append(str(error))
        return before, (folder / record.METRICS).stat().st_size if (folder / record.METRICS).is_file() else 0
    if written.step < before:
        lost.append(f"step {before} was saved, and the newest is {written.step}")
    if not (whole / record.METRICS).read_bytes().startswith(rows):
        lost.append("the rows are not those of the run that nobody touched")
        return written.step, len(rows)
    return written.step, 0


def _compare(folder: Path, whole: Path, lost: list[str]) -> int:
    """The bytes in which the two runs differ at their ends: arrays of the last checkpoint, and rows."""
    differing = 0
    try:
        (ours, meta), (theirs, other) = (checkpoint.load_arrays(path / "checkpoints") for path in (folder, whole))
        if meta["rows"][0] != other["rows"][0]:
            lost.append(f"it ended at step {meta['rows'][0]}, not {other['rows'][0]}")
        for name, array in theirs.items():
            if name not in ours or ours[name].tobytes() != array.tobytes():
                differing += array.nbytes
        pair = [(path / record.METRICS).read_bytes() for path in (folder, whole)]
        differing += 0 if pair[0] == pair[1] else max(map(len, pair))
    except Exception as error:
        lost.append(f"at the end: {error}")
        return (whole / record.METRICS).stat().st_size
    if differing:
        lost.append(f"{differing} bytes of arrays and rows differ at the end")
    return differing
