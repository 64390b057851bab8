"""The parent of a process that trains with others: exit codes, signals, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from approxtrain.run.team import watch

PARENT = """
import sys
from approxtrain.run.team import watch
sys.exit(watch.watched([sys.executable, "-c", sys.argv[1]], lambda text: print(text, flush=True)))
"""
BEFORE = "import os, sys, time, signal\nfrom approxtrain.run.team import watch\nwatch.end_with_parent()\n"
CHILD = f"{BEFORE}watch.has_met()\n"
WAITING = "\nprint('ready', os.getpid(), flush=True)\ntime.sleep(60)"


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PARENT, code], stdout=subprocess.PIPE, text=True)


def waiting(code: str, first: str = CHILD) -> tuple[subprocess.Popen[str], int]:
    """The parent, and the number of its child, which has come to the end of `code` and waits."""
    process = start(first + code + WAITING)
    assert process.stdout is not None
    return process, int(process.stdout.readline().split()[1])


@pytest.mark.parametrize("code", [0, 2, 4, 143])
def test_the_childs_exit_code_is_the_parents(code):
    process = start(f"{CHILD}sys.exit({code})")
    assert (process.communicate(timeout=30)[0], process.returncode) == ("", code)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGABRT, "Another process of the run was lost"), (signal.SIGKILL, "no memory left")]
)
def test_a_child_that_is_ended_ends_the_parent_with_75_and_a_sentence(number, said):
    process = start(f"{CHILD}os.kill(os.getpid(), {int(number)})")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == watch.LOST == 75
    assert out.count("\n") == 1
    assert said in out
    assert "--resume DIR" in out


def test_a_child_that_jax_ends_before_it_has_met_the_others_is_no_lost_one():
    process = start(f"{BEFORE}os.kill(os.getpid(), {int(signal.SIGABRT)})")
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == (f"error: {watch.ALONE}\n", 2)


def test_a_signal_before_the_processes_have_met_ends_it_at_once():
    process, child = waiting("signal.signal(signal.SIGTERM, signal.SIG_IGN)", BEFORE)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=5)
    assert process.returncode == 130
    assert out == "Stopped by a signal, before the processes had met. Nothing was begun.\n"
    assert gone(child)


@pytest.mark.parametrize("end", ["os._exit(0)", f"os.kill(os.getpid(), {int(signal.SIGKILL)})"])
def test_what_a_child_leaves_in_its_folder_goes_with_the_parent(end):
    process = start(f"{CHILD}print(watch.scratch(), flush=True)\nopen(watch.scratch() + '/left', 'w').close()\n{end}")
    out, _ = process.communicate(timeout=30)
    folder = Path(out.splitlines()[0])
    assert folder.name.startswith("approxtrain-")
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_as_the_one_that_ends_all_processes(number):
    process, _ = waiting("signal.signal(signal.SIGTERM, lambda *_: os._exit(143))")
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "stopping after this step" in out


def test_a_second_signal_leaves_at_once():
    process, child = waiting("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    assert "stopping" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130
    assert gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_child_ends_with_its_parent():
    process, child = waiting("")
    process.kill()
    process.wait()
    assert gone(child)


def gone(child: int) -> bool:
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
