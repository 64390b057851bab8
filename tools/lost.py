"""How long a run of two processes takes to end where one of them is lost, and what it is when it goes on.

python -m tools.lost measure    # minutes; writes results/bench/lost-processes-cpu.json; the machine must be quiet
python -m tools.lost page       # writes the tables of docs/clusters.md
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from approxtrain import disk
from approxtrain.run import checkpoint
from approxtrain.run.environment import this_environment
from tests.cli.team import RUN, children, ended, losses, processes, wait_for
from tools.arms import refuse_changed_files
from tools.rendered import DOCS, ROOT, Part

RESULT = ROOT / "results/bench/lost-processes-cpu.json"
PART = Part(DOCS / "clusters.md", "by tools/lost.py")
TIMES, LONGEST = 5, 120.0
"""How often each is tried, and the most seconds that it may last."""
EPOCHS, STOPPED = 60, 16
"""Of a run that goes on after a SIGTERM, and the step that it has saved at least by then; an epoch has 8."""


def lose(number: int, name: str) -> dict[str, Any]:
    """One run, whose process of that number is sent a signal: what the others do, and what is left."""
    with tempfile.TemporaryDirectory() as root:
        out = Path(root, "run")
        with processes([*RUN, "train.epochs=5000", "--out", str(out)], 2) as two:
            wait_for(STOPPED, out, two)
            before = newest(out)
            victim = two[number].pid if name == "SIGTERM" else children(two[number].pid)[0]
            begin = time.monotonic()
            os.kill(victim, signal.Signals[name])
            # of a process that is lost its parent tells as well; one that is stopped is waited for by nobody
            waited = [process for process in two if name != "SIGSTOP" or process is not two[number]]
            seconds = [gone(process, begin) for process in waited]
            codes = [code for code, _ in ended(waited)]
        arrays, _ = checkpoint.load_arrays(out / "checkpoints")
        return {
            "seconds": max(seconds),
            "exit_codes": codes,
            "step_before": before,
            "step_after": newest(out),
            "arrays": len(arrays),
        }


def gone(process: subprocess.Popen[str], begin: float) -> float:
    while process.poll() is None:
        assert time.monotonic() - begin < LONGEST, "it never ends"
        time.sleep(0.01)
    return time.monotonic() - begin


def newest(folder: Path) -> int:
    """The step of the last checkpoint."""
    return max(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").glob("step-*"))


def go_on(numbers: Sequence[int]) -> list[dict[str, Any]]:
    """A run that two processes began, ended by so many; against the one of two processes that was not interrupted."""
    run = [*RUN, f"train.epochs={EPOCHS}"]
    rows = []
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root, "whole")
        complete([*run, "--out", str(whole)], 2)
        for count in numbers:
            out = Path(root, f"on-{count}")
            with processes([*run, "--out", str(out)], 2) as two:
                wait_for(STOPPED, out, two)
                two[0].send_signal(signal.SIGTERM)
                assert [code for code, _ in ended(two)] == [143, 143]
            step = newest(out)
            complete(["--resume", str(out)], count)
            rows.append({"processes": count, "resumed_at": step, **differences(out, whole)})
    return rows


def complete(what: list[str], count: int) -> None:
    with processes(what, count) as started:
        for code, said in ended(started):
            assert code == 0, said


def differences(ours: Path, right: Path) -> dict[str, float]:
    """The largest of the losses, relative to each, and of the arrays, relative to the largest number of each."""
    (found, _), (expected, _) = (checkpoint.load_arrays(folder / "checkpoints") for folder in (ours, right))
    arrays = []
    for name, array in expected.items():
        size, difference = np.abs(array.astype(float)), np.abs(found[name].astype(float) - array.astype(float))
        arrays.append(float(difference.max(initial=0.0)) / (float(size.max(initial=0.0)) or 1.0))
    ratios = np.array(losses(ours)) / np.array(losses(right))
    return {"losses": float(np.abs(ratios - 1).max()), "arrays": max(arrays)}


CASES = {
    "SIGKILL to the first": (0, "SIGKILL"),
    "SIGKILL to the second": (1, "SIGKILL"),
    "SIGSTOP to the first": (0, "SIGSTOP"),
    "SIGSTOP to the second": (1, "SIGSTOP"),
    "SIGTERM to the second": (1, "SIGTERM"),
}


def measure() -> None:
    refuse_changed_files()
    lost = {}
    for text, case in CASES.items():
        lost[text] = [lose(*case) for _ in range(TIMES)]
        print(text, [round(each["seconds"], 1) for each in lost[text]], flush=True)
    result = {"command": "python -m tools.lost measure", "times": TIMES, "lost": lost, "resumed": go_on((1, 2, 4))}
    disk.write_json(RESULT, result | {"environment": this_environment()})


def page() -> str:
    known = json.loads(RESULT.read_text("utf-8"))
    lines = [
        "| what is sent | the others end after, s | exit codes | lost of what was saved |",
        "| --- | --- | --- | --- |",
    ]
    for text, each in known["lost"].items():
        seconds, codes = [one["seconds"] for one in each], {code for one in each for code in one["exit_codes"]}
        lost = sum(one["step_after"] < one["step_before"] for one in each)
        numbers = ", ".join(map(str, sorted(codes)))
        lines.append(f"| {text} | {min(seconds):.1f} to {max(seconds):.1f} | {numbers} | {lost or 'nothing'} |")
    lines += ["", "| a run of two processes goes on in | its losses | its weights |", "| --- | --- | --- |"]
    for row in known["resumed"]:
        count = f"{row['processes']} process{'es' if row['processes'] > 1 else ''}"
        lines.append(f"| {count} | {words(row['losses'])} | {words(row['arrays'])} |")
    return "\n".join(lines) + "\n"


def words(difference: float) -> str:
    """A bound of one digit above it."""
    if not difference:
        return "the same bits"
    power = math.floor(math.log10(difference))
    digit = math.ceil(difference / 10.0**power)
    return f"within 1e{power + 1}" if digit == 10 else f"within {digit}e{power}"


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["measure"]:
            measure()
        case ["page"]:
            PART.put(page())
        case _:
            sys.exit(str(__doc__))


if __name__ == "__main__":
    main(sys.argv[1:])
