"""Script, manifest and launcher of docs/clusters.md, as they stand there, with stand-ins for the clusters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.installed import COMMAND, ROOT, TINY
from tests.cli.team import LOWEST, free_port

PAGE = (ROOT / "docs/clusters.md").read_text("utf-8")
SRUN = """#!{python}
import os, subprocess, sys
told = {{"JOB_ID": {job}, "STEP_NODELIST": "127.0.0.1", "NTASKS": 2, "STEP_NUM_NODES": 1}}
def start(number):
    own = told | {{"PROCID": number, "LOCALID": number}}
    variables = {{f"SLURM_{{key}}": str(value) for key, value in own.items()}}
    return subprocess.Popen(sys.argv[1:], env=os.environ | variables)
sys.exit(max([process.wait() for process in [start(0), start(1)]]))
"""
RAY = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor()
def init(): pass
def get(futures): return [future.result() for future in futures]
def remote(**resources):
    def decorated(function):
        function.remote = lambda *arguments: pool.submit(function, *arguments)
        return function
    return decorated
"""


def block(language: str, containing: str) -> str:
    return next(each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in each)


@pytest.fixture
def place(tmp_path):
    """A folder with `approxtrain` on its path and a my.toml; (folder, environment, port)."""
    overrides = [*TINY[1:], "train.epochs=2", "train.trackers=[]"]
    text = subprocess.run([*COMMAND, "cp", "quickstart", "my.toml"], cwd=tmp_path, capture_output=True, text=True)
    assert text.returncode == 0, text.stderr
    script = tmp_path / "bin/approxtrain"
    script.parent.mkdir()
    quoted = " ".join(f'"{override}"' for override in overrides)
    script.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@" {quoted}\n')
    script.chmod(0o755)
    path = f"{script.parent}:{os.environ['PATH']}"
    return tmp_path, os.environ | {"PATH": path, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, free_port()


def finished(folder: Path) -> bool:
    return (folder / "runs/mine/summary.json").is_file()


@pytest.mark.long
def test_the_script_for_slurm(place):
    folder, environment, port = place
    srun = folder / "bin/srun"
    srun.write_text(SRUN.format(python=sys.executable, job=port - LOWEST))
    srun.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", block("sh", "srun")], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished(folder)


@pytest.mark.long
def test_the_manifest_for_jobset(place):
    folder, environment, port = place
    text = block("yaml", "JobSet").partition("args:")[2].partition(">-")[2]
    command = (
        " ".join(text.split())
        .replace("/runs/mine", "runs/mine")
        .replace("mine-train-0-0.mine:9911", f"127.0.0.1:{port}")
    )
    pods = [
        subprocess.Popen(["sh", "-c", command], cwd=folder, env=environment | {"JOB_COMPLETION_INDEX": number})
        for number in "01"
    ]
    assert [pod.wait() for pod in pods] == [0, 0]
    assert finished(folder)


@pytest.mark.long
def test_the_launcher_for_ray(place):
    folder, environment, port = place
    (folder / "ray.py").write_text(RAY)
    code = block("python", "import ray").replace("node1:9911", f"127.0.0.1:{port}")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[0, 0]", done.stdout + done.stderr
    assert finished(folder)
