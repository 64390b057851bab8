"""The runner of `make soak`: it goes on where it ended, counts what was done, and ends with 1 on a loss."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from approxtrain.run import environment
from tools.soak import __main__ as soak
from tools.soak import units
from tools.soak.units import Size


def done(name: str) -> dict[str, Any]:
    """A unit that nothing was lost in."""
    part, *numbers = name.split()
    counts: dict[str, dict[str, Any]] = {
        "faults": {"scenario": f"scenario {name}", "operations": 2, "failed": 12, "crashed": 2, "power_cut": 4},
        "kills": {"kills": int(numbers[-1]), "kills_in_a_save": 1},
        "inputs": {"reader": f"reader {numbers[0]}", "inputs": int(numbers[-1]), "taken": 1},
        "steadiness": {"steps": int(numbers[0]), "saves": 4, "after_a_quarter": {}, "at_the_end": {}},
    }
    ended = {"unit": name, "part": part, "tracebacks": 0, "hangs": 0, "bytes_lost": 0, "lost": [], "seconds": 1.0}
    return ended | {"peak_memory_mb": 10.0} | counts[part]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`start(units)`: a small soak whose units are listed there and not done; → (exit code, result)."""
    monkeypatch.setattr(environment, "this_environment", lambda: {"git_commit": "0" * 40})
    options = ["--kills", "7", "--inputs", "50000", "--steps", "20"]
    out = tmp_path / "soak.json"
    monkeypatch.setattr(sys, "argv", ["soak", *options, "--out", str(out), "--work", str(tmp_path)])

    def run(answer=done) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(soak, "_apart", lambda name, size, work: answer(name))
        code = soak.main()
        return code, json.loads(out.read_text())

    return run


def test_all_that_was_asked_for_is_done_and_counted(start) -> None:
    code, result = start()
    assert code == 0
    assert result["kills"]["kills"] == 7
    assert 50_000 <= sum(row["inputs"] for row in result["inputs"]) < 50_100
    assert len(result["faults"]) == 6
    assert (result["bytes_lost"], result["lost"], result["peak_memory_mb"]) == (0, [], 10.0)
    assert result["seconds"] == len(units.names(Size(7, 50_000, 20)))


@pytest.mark.parametrize("what", ["bytes_lost", "tracebacks", "hangs", "lost"])
def test_a_loss_ends_with_1(start, what: str) -> None:
    bad = {what: ["it is gone"] if what == "lost" else 1}
    code, result = start(lambda name: done(name) | (bad if name.startswith("kills") else {}))
    assert code == 1
    assert result[what]


def test_a_soak_that_was_ended_goes_on(start) -> None:
    asked: list[str] = []

    def until(name: str) -> dict[str, Any]:
        asked.append(name)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return done(name)

    with pytest.raises(KeyboardInterrupt):
        start(until)
    code, result = start(until)
    assert code == 0
    assert len(asked) == 1 + len(set(asked)) == 1 + result["seconds"]


def test_no_more_is_begun_after_the_minutes_and_what_was_done_is_told(start, monkeypatch, capsys) -> None:
    begun = iter(range(10**6))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [*sys.argv, "--minutes", "0.05"])
        patch.setattr(soak.time, "monotonic", lambda: next(begun))
        code, result = start()
    assert code == 0
    assert 0 < result["seconds"] < 7
    assert "are left: the same command goes on" in capsys.readouterr().out
    assert start()[1]["kills"]["kills"] == 7


def test_a_process_that_ends_by_itself_is_a_loss(tmp_path: Path) -> None:
    found = soak._apart("no such part", Size(), tmp_path)
    assert found["tracebacks"] == 1
    assert "KeyError" in found["lost"][0]


@pytest.mark.gate
@pytest.mark.parametrize(
    "name",
    [
        "inputs 5 0 200",
        "faults 5",
        *(pytest.param(each, marks=pytest.mark.long) for each in ("kills 0 1", "steadiness 160")),
    ],
)
def test_a_unit_of_each_kind_is_done(tmp_path: Path, name: str) -> None:
    found = soak._apart(name, Size(cuts=1), tmp_path)
    assert (found["lost"], found["tracebacks"], found["hangs"], found["bytes_lost"]) == ([], 0, 0, 0)


def test_a_traceback_tells_nothing_of_where_the_program_lay():
    lost = f'File "{sys.prefix}/lib/a.py", line 1\nFile "{units.ROOT}/tools/soak/inputs.py", line 2'
    unit = {"unit": "kills 0 1", "part": "kills", "tracebacks": 1, "hangs": 0, "bytes_lost": 0, "lost": [lost]}
    found = units.together([unit | {"seconds": 1.0, "peak_memory_mb": 1.0}], units.Size())
    assert found["lost"] == ['File "lib/a.py", line 1\nFile "tools/soak/inputs.py", line 2']
