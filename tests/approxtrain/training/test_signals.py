"""A signal is answered at once, also while the main thread is in code that runs no handler, as in compiling."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import hashlib
from approxtrain.training.signals import Interruption
with Interruption(lambda: print("stopping", flush=True)) as interruption:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000_000)  # seconds in C, in which Python runs no handler
    print(interruption.signal_number, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_answered_and_the_second_leaves_while_nothing_else_runs(number):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(number)
    assert process.wait(timeout=5) == 128 + number
    assert time.monotonic() - began < 2
    assert process.stdout.read() == ""  # it was in the middle of its work
