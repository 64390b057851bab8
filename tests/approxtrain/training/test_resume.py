"""Kill −9 at any step and resume: the same parameters and the same rows, bit for bit, under every kind of schedule."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.run import record

pytestmark = pytest.mark.gate

STEPS = 18  # six in each of three epochs
BETWEEN = 12  # an epoch ends here, with a row of training and one of validation for each seed

GRID = [["full", "zero", "random", "full"], ["approx", "full", "random", "zero"], ["approx", "skip", "full", "full"]]
"""Three layers by four steps."""

SCHEDULES = {
    "at every step": {"name": "schedule1", "method": "approx"},
    "four steps a call": {"grid": GRID, "dispatch": "switch"},  # of six in an epoch, so that two are left over
}
MORE = {
    "full": {"name": "full"},
    "rules": {
        "dispatch": "host",
        "rules": [
            {"method": "approx", "params": {"k": 2}, "layers": {"start": 2, "every": 2}},
            {"method": "skip", "path": "third", "steps": {"start": 1, "every": 4}, "epochs": {"from": 2}},
        ],
    },
    "grid": {"grid": GRID},
    "two seeds at once": {"name": "schedule3", "method": "random"},
    "two seeds, one after the other": {"name": "schedule3", "method": "random"},
    "in turns": {"name": "schedule3", "method": "random"},
    "until an epoch": {"name": "schedule2", "method": "approx", "until_epoch": 2},
    "dropback": {"grid": GRID},
    "prunetrain": {"grid": GRID},
}
"""Further kinds, which are long."""

TRAIN = {
    "four steps a call": {"chunk": 4},
    "two seeds, one after the other": {"seeds": 2, "seeds_by": "map"},
    "two seeds at once": {"seeds": 2, "seeds_by": "vmap", "chunk": 4},
    "dropback": {"optimizer": {"name": "sgd", "dropback": {"keep": 0.1, "freeze": "50%"}}},
    "prunetrain": {"optimizer": {"name": "sgd", "prunetrain": {"threshold": 0.3, "every": "20%"}}, "chunk": 4},
}

# For each line "STEP FOLDER": train, or go on, in a process of its own. It kills itself after that step (0: never; −12:
# after the rows of step 12 and before its checkpoint), or ends and leaves the final arrays. Answers how it ended, and
# the newest checkpoint that is there then. The processes are forks of one that has imported everything and has not
# started jax's backend.
PROGRAM = """
import multiprocessing, os, signal, sys
from pathlib import Path
import jax, matplotlib.pyplot, numpy as np, tensorboardX
from approxtrain import config
from approxtrain.run import checkpoint
from approxtrain.training.events import Listener
from approxtrain.run.folder import RunFolder
from approxtrain.training.loop import Run

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

class Killer(Listener):
    def __init__(self, after):
        self.after = after

    def step(self, step, loss):
        if step == self.after:
            kill()

save = checkpoint.save

def train(path, kill_after):
    checkpoint.save = lambda folder, step, *rest, **more: (
        kill() if -step == kill_after < 0 else save(folder, step, *rest, **more)
    )
    with RunFolder.open(path) as folder:
        run = Run(config.load(str(folder.config)), folder, Killer(kill_after))
        like = run.initial
        run.train()
        state, _, skipped = checkpoint.load_latest(folder.checkpoints, like)
        assert not skipped
        np.savez(path / "final.npz", *jax.tree.leaves(state))

for line in sys.stdin:
    kill_after, path = line.split(maxsplit=1)
    path = Path(path.strip())
    process = multiprocessing.get_context("fork").Process(target=train, args=(path, int(kill_after)))
    process.start()
    process.join()
    saved = [int(folder.name.removeprefix("step-")) for folder in path.glob("checkpoints/step-*")]
    print(process.exitcode, max(saved, default=0))
"""


def train(folders: list[Path], kills: dict[Path, list[int]]) -> dict[Path, list[list[int]]]:
    """Train in these folders, one after the other. → for each folder [exit code, last checkpoint] of its processes."""
    tasks = [(step, folder) for folder in folders for step in (*kills[folder], 0)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="".join(f"{step} {folder}\n" for step, folder in tasks),
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    answers = [[int(number) for number in line.split()] for line in ended.stdout.splitlines()]
    assert len(answers) == len(tasks), ended.stderr
    return {
        folder: [answer for answer, (_, own) in zip(answers, tasks, strict=True) if own == folder] for folder in folders
    }


@pytest.fixture(name="runs", scope="module")
def _runs(configure, tmp_path_factory, request) -> dict[Path, list[list[int]]]:
    """All runs that are asked for, in two processes side by side: whole ones, and killed ones that read back what those
    have compiled. Long kinds are killed six times, the others three."""
    kills: dict[Path, list[int]] = {}
    root = tmp_path_factory.getbasetemp()
    asked_for = {getattr(item, "callspec", None) and item.callspec.params.get("kind") for item in request.session.items}
    for kind, schedule in (SCHEDULES | MORE).items():
        if kind not in asked_for:
            continue
        drawn = random.Random(kind).sample(range(2, STEPS + 1), 4 if kind in MORE else 1)
        for name, steps in ((f"{kind}, whole", []), (f"{kind}, killed", sorted([1, *drawn, -BETWEEN], key=abs))):
            kills[root / name] = steps
            (root / name).mkdir()
            config = configure(schedule, **{"checkpoint_every": 2} | TRAIN.get(kind, {}))
            disk.write(root / name / "config.toml", dump(config))
    folders = list(kills)
    half = len(folders) // 4 * 2  # the two runs of a kind stay together
    with ThreadPoolExecutor(2) as two_at_a_time:
        parts = two_at_a_time.map(train, (folders[:half], folders[half:]), (kills, kills))
        return {folder: answers for part in parts for folder, answers in part.items()}


@pytest.mark.gate
@pytest.mark.parametrize("kind", [*SCHEDULES, *(pytest.param(kind, marks=pytest.mark.long) for kind in MORE)])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(kind, runs, tmp_path_factory):
    whole, killed = (tmp_path_factory.getbasetemp() / f"{kind}, {end}" for end in ("whole", "killed"))
    assert runs[whole] == [[0, STEPS]]
    assert [code for code, _ in runs[killed]] == [-signal.SIGKILL] * (6 if kind in MORE else 3) + [0]
    saved = [step for _, step in runs[killed]]
    assert saved[0] == 0  # the first kill comes before the first checkpoint of a step
    assert saved == sorted(saved)
    assert_same_bits(killed, whole, TRAIN.get(kind, {}).get("seeds", 1))


def assert_same_bits(path: Path, other: Path, seeds: int) -> None:
    rows = (path / record.METRICS).read_bytes()
    assert rows.count(b"\n") == (3 + 2) * seeds
    assert rows == (other / record.METRICS).read_bytes()
    ours, theirs = np.load(path / "final.npz"), np.load(other / "final.npz")
    assert ours.files == theirs.files
    assert {name for name in ours.files if ours[name].tobytes() != theirs[name].tobytes()} == set()
