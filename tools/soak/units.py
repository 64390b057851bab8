"""The soak in units that can be done apart, each in a process of its own, and what they come to together."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CHAIN, CHUNK = 5, 10_000
"""Kills of one run, and inputs of one reader, in a unit."""
SLOWEST = 10.0
"""Seconds after which a reader is taken for hanging."""
LONGEST = 3600.0
"""Seconds after which a unit is."""
MEMORY = 2 * 2**30
"""Bytes that a reader may take beside what the process has."""


class Size(NamedTuple):
    """How much of each part."""

    kills: int = 200
    inputs: int = 1_000_000
    steps: int = 2_000
    cuts: int = 8
    """Power cuts at a file operation that keep what they like, beside two that lose all."""
    seed: int = 0


class Hang(BaseException):
    """Nothing came back in time."""


def names(size: Size) -> list[str]:
    """All units, the parts side by side."""
    from tools.soak.inputs import READERS
    from tools.soak.scenarios import SCENARIOS

    faults = [f"faults {number}" for number in range(len(SCENARIOS))]
    each = -(-size.inputs // len(READERS))
    spoilt = [
        f"inputs {number} {start} {min(CHUNK, each - start)}"
        for start in range(0, each, CHUNK)
        for number in range(len(READERS))
    ]
    kills = [f"kills {start // CHAIN} {min(CHAIN, size.kills - start)}" for start in range(0, size.kills, CHAIN)]
    return [*faults, f"steadiness {size.steps}", *_mixed(spoilt, kills)]


def _mixed(*parts: list[str]) -> Iterator[str]:
    """The parts in proportion, so that a soak that is cut short has some of each."""
    places = [((number + 0.5) / len(part), name) for part in parts for number, name in enumerate(part)]
    yield from (name for _, name in sorted(places))


def run(name: str, size: Size, work: Path) -> dict[str, Any]:
    """Do the unit in this process. → `part`, counts, `tracebacks`, `hangs`, `bytes_lost`, `lost`, seconds, memory."""
    part, *numbers = name.split()
    begin = time.monotonic()
    found: dict[str, Any] = {"unit": name, "part": part, "tracebacks": 0, "hangs": 0, "bytes_lost": 0, "lost": []}
    found |= _DO[part](size, work, *map(int, numbers))
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    found["peak_memory_mb"] = max(resource.getrusage(which).ru_maxrss for which in processes) / 1024
    return found | {"seconds": time.monotonic() - begin}


def _faults(size: Size, work: Path, number: int) -> dict[str, Any]:
    from tools.soak import faults
    from tools.soak.scenarios import SCENARIOS

    scenario, root = SCENARIOS[number], work / f"disk-{number}"
    counts, lost = {"operations": 0, "failed": 0, "crashed": 0, "power_cut": 0}, []
    for at, operation in enumerate([*faults.operations(scenario, root), "nothing more"]):
        counts["operations"] += 1
        for case in faults.cases(at, operation, size.cuts):
            what = "failed" if case.fault.error else "power_cut" if case.power else "crashed"
            counts[what] += 1
            if outcome := faults.outcome(scenario, root, case):
                lost.append(f"{scenario.name}: {operation}: {case}: {outcome}")
    shutil.rmtree(root)
    tracebacks = sum(": a traceback: " in each for each in lost)
    return counts | {"scenario": scenario.name, "tracebacks": tracebacks, "lost": lost}


def _kills(size: Size, work: Path, number: int, kills: int) -> dict[str, Any]:
    from tools.soak.kills import chain

    return chain(size.seed + number, kills, work)


def _steadiness(size: Size, work: Path, steps: int) -> dict[str, Any]:
    from tools.soak.steadiness import train

    return train(steps, work)


def _inputs(size: Size, work: Path, number: int, start: int, count: int) -> dict[str, Any]:
    from tools.soak.inputs import READERS, edits, read

    reader, folder = READERS[number], work / f"inputs-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw = random.Random(f"{size.seed} {reader.name} {start}")
    found: dict[str, Any] = {
        "reader": reader.name,
        "inputs": count,
        "taken": 0,
        "tracebacks": 0,
        "hangs": 0,
        "lost": [],
    }
    read(reader, folder, 0, [])  # what is made once is made
    _limit_memory()
    signal.signal(signal.SIGALRM, _ring)
    for index in range(count):
        how = edits(draw)
        signal.setitimer(signal.ITIMER_REAL, SLOWEST)
        try:
            found["taken"] += read(reader, folder, start + index, how)
        except (Exception, Hang) as error:
            found["hangs" if isinstance(error, Hang) else "tracebacks"] += 1
            if len(found["lost"]) < 20:
                found["lost"].append(f"{reader.name}: {start + index}, {how}: {traceback.format_exc()[-1500:]}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    shutil.rmtree(folder)
    return found


def _ring(*_: object) -> None:
    raise Hang


def _limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


_DO: dict[str, Callable[..., dict[str, Any]]] = {
    "faults": _faults,
    "kills": _kills,
    "inputs": _inputs,
    "steadiness": _steadiness,
}


def together(done: list[dict[str, Any]], size: Size) -> dict[str, Any]:
    """What all units came to. Seconds are those of the work, not those between."""
    totals = {name: sum(each[name] for each in done) for name in ("bytes_lost", "tracebacks", "hangs")}
    totals |= {
        "seconds": sum(each["seconds"] for each in done),
        "lost": [_without_places(text) for each in done for text in each["lost"]],
    }
    totals["peak_memory_mb"] = max((each["peak_memory_mb"] for each in done), default=0)
    of = {part: [each for each in done if each["part"] == part] for part in _DO}

    def summed(part: str, *counts: str) -> dict[str, int]:
        return {name: sum(each.get(name, 0) for each in of[part]) for name in counts}

    by_scenario = [
        {name: each[name] for name in ("scenario", "operations", "failed", "crashed", "power_cut")} | _ended(each)
        for each in of["faults"]
        if "scenario" in each
    ]
    readers: dict[str, dict[str, Any]] = {}
    for each in (each for each in of["inputs"] if "reader" in each):
        row = readers.setdefault(
            each["reader"], {"reader": each["reader"], "inputs": 0, "taken": 0, "tracebacks": 0, "hangs": 0}
        )
        for name in ("inputs", "taken", "tracebacks", "hangs"):
            row[name] += each[name]
    return {
        "asked_for": size._asdict(),
        **totals,
        "kills": summed("kills", "kills", "kills_in_a_save", "bytes_lost", "hangs", "tracebacks"),
        "faults": by_scenario,
        "inputs": sorted(readers.values(), key=lambda row: row["reader"]),
        "steadiness": next(
            (
                {k: each[k] for k in ("steps", "saves", "after_a_quarter", "at_the_end")}
                for each in of["steadiness"]
                if "steps" in each
            ),
            None,
        ),
    }


def _without_places(text: str) -> str:
    """A traceback that tells nothing of where the program and its Python lay on the machine."""
    for place in (sys.prefix, sys.base_prefix, str(ROOT)):
        text = text.replace(f"{place}/", "")
    return text


def _ended(unit: dict[str, Any]) -> dict[str, int]:
    return {"lost": len(unit["lost"]), "tracebacks": unit["tracebacks"]}
