"""A network and images of a user's own, from the command line, killed in the middle of an epoch and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.gate

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "cli", ROOT / "kernels")))

NETWORK = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, width, classes, *, rngs):
        self.first = nnx.Conv(3, width, (3, 3), strides=4, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.second = nnx.Conv(width, width, (3, 3), strides=2, rngs=rngs)
        self.third = nnx.Conv(width, width, (3, 3), strides=2, rngs=rngs)
        self.logits = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.first(x)))
        x = nnx.relu(self.third(nnx.relu(self.second(x))))
        return self.logits(x.mean((1, 2)))
"""
CONFIG = """
[model]
target = "mynet:Net"
arguments = { width = 8 }

[data]
dir = "pets"

[train]
epochs = 3
batch_size = 8
validate_every = 1
checkpoint_every = 2

[optimizer]
name = "sgd"
nesterov = true
learning_rate = 0.1
weight_decay = 5e-4
rate = "cosine"
warmup = 0.5

[[schedule.rules]]
method = "approx"
path = "second"
[[schedule.rules]]
method = "zero"
path = "third"
steps = { start = 1, every = 2 }
"""
STEPS = 15  # five in each of three epochs
KILL = "import os, signal; from approxtrain_cli.progress import Progress; step = Progress.step; "
KILL += "Progress.step = lambda self, number, losses: os.kill(os.getpid(), signal.SIGKILL) if number == {} "
KILL += "else step(self, number, losses); main()"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    fill(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def streamed(tmp_path_factory) -> tuple[bytes, bytes]:
    """What a run leaves that streams its images, by no other process, and is never killed."""
    folder = tmp_path_factory.mktemp("streamed")
    fill(folder)
    command = [sys.executable, "-m", "approxtrain_cli", "train", "mine.toml", "data.stream=true", "data.workers=0"]
    environment = os.environ | {"PYTHONPATH": PATHS}
    subprocess.run([*command, "--out", "whole"], cwd=folder, env=environment, check=True, timeout=300)
    return left(folder / "whole")


def fill(tmp_path: Path) -> None:
    """42 PNGs of 96×96 to train on and 12 to validate on, in 3 classes that differ in their stripes; the network, and
    the configuration."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 14), ("val", 4)):
        for label, name in enumerate(("across", "down", "plain")):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 60, (96, 96, 3), dtype=np.uint8)
                stripes = 150 * (np.arange(96) // 6 % 2).astype(np.uint8)
                pixels += (stripes[:, None, None], stripes[None, :, None], np.uint8(75))[label]
                Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "mynet.py").write_text(NETWORK)
    (tmp_path / "mine.toml").write_text(CONFIG)


def processes_in(folder: Path) -> list[str]:
    """The processes that run in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")) == folder:
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended, or is not ours
    return found


def finish(process) -> int:
    return process.wait(300)


def left(run: Path) -> tuple[bytes, bytes]:
    """All rows, and the arrays of the last checkpoint."""
    return (run / "metrics.jsonl").read_bytes(), (run / f"checkpoints/step-{STEPS:08d}/arrays.npz").read_bytes()


@pytest.mark.long
def test_a_run_on_images_in_memory_is_killed_and_goes_on_bit_for_bit(place, start):
    assert finish(start("train", "mine.toml", "--out", "whole")) == 0
    assert finish(start("train", "mine.toml", "--out", "killed", code=KILL.format(8))) == -signal.SIGKILL
    assert finish(start("train", "--resume", "killed")) == 0
    assert left(place / "killed") == left(place / "whole")


@pytest.mark.parametrize("workers", [1, *(pytest.param(number, marks=pytest.mark.long) for number in (0, 4))])
def test_a_run_that_streams_is_killed_and_goes_on_bit_for_bit(workers, place, start, streamed):
    there = ["mine.toml", "data.stream=true", f"data.workers={workers}", "--out", "killed"]
    for step, arguments in ((1, there), (8, ["--resume", "killed"])):
        assert finish(start("train", *arguments, code=KILL.format(step))) == -signal.SIGKILL
        deadline = time.monotonic() + 20
        while processes_in(place) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert processes_in(place) == []  # those that read end with the one that they read for
    assert finish(start("train", "--resume", "killed")) == 0
    rows, arrays = left(place / "killed")
    whole_rows, whole_arrays = streamed
    assert rows == whole_rows
    assert arrays == whole_arrays


@pytest.mark.long
def test_ctrl_c_reaches_the_whole_group_and_the_run_saves_before_it_ends(place, start, streamed):
    code = KILL.format(8).replace("os.kill(os.getpid(), signal.SIGKILL)", "os.killpg(0, signal.SIGINT)")
    told = {"stderr": subprocess.PIPE, "start_new_session": True}
    command = ["train", "mine.toml", "data.stream=true", "--out", "stopped", "data.workers=1"]
    interrupted = start(*command, code=code, **told)
    _, error = interrupted.communicate(timeout=300)
    assert interrupted.returncode == 128 + signal.SIGINT
    assert error.startswith("Stopped by a signal after step")
    assert "leaked" not in error  # no memory that a worker shared is left behind
    assert finish(start("train", "--resume", "stopped")) == 0
    assert left(place / "stopped") == streamed
