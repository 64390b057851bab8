"""Several processes of `approxtrain train` on one machine: started as a user or a cluster would, and waited for."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.cli.installed import COMMAND, ROOT, TINY

RULES = 'schedule={ rules = [{ method = "approx", layers = [2], steps = { every = 2 } }] }'
RUN = [*TINY, RULES, "train.trackers=[]"]
PATIENCE = 120.0
LOWEST = 65535 - 2**12 + 1
"""Of the ports that jax chooses from, by the number of a cluster's job."""


def free_port() -> int:
    for port in random.sample(range(LOWEST, 65536), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def by_options(number: int, count: int, port: int) -> tuple[list[str], dict[str, str]]:
    return ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count), "--process-id", str(number)], {}


def by_slurm(number: int, count: int, port: int) -> tuple[list[str], dict[str, str]]:
    """As `srun` sets the environment of its processes; jax makes the port of the job's number."""
    told = {"JOB_ID": port - LOWEST, "STEP_NODELIST": "127.0.0.1", "NTASKS": count, "PROCID": number, "LOCALID": number}
    told |= {"STEP_NUM_NODES": 1}
    return ["--distributed"], {f"SLURM_{name}": str(value) for name, value in told.items()}


def by_open_mpi(number: int, count: int, port: int) -> tuple[list[str], dict[str, str]]:
    """As `mpirun` of Open MPI 4 does; jax makes the port of its own number of the job."""
    uri = f"{(port - LOWEST) * 2**12}.0;tcp://127.0.0.1:1"
    told = {"OMPI_MCA_orte_hnp_uri": uri, "OMPI_COMM_WORLD_SIZE": count, "OMPI_COMM_WORLD_RANK": number}
    told |= {"OMPI_COMM_WORLD_LOCAL_RANK": number}
    return ["--distributed"], {name: str(value) for name, value in told.items()}


def start(what: list[str], devices: int, more: dict[str, str]) -> subprocess.Popen[str]:
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    environment |= {"PYTHONPATH": str(ROOT)} | more
    command = [*COMMAND, "train", *what]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


Means = Callable[[int, int, int], tuple[list[str], dict[str, str]]]


@contextlib.contextmanager
def processes(
    what: list[str], count: int, devices: int = 1, by: Means = by_options, more: Mapping[str, str] | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    port, started = free_port(), []
    for number in range(count):
        options, environment = by(number, count, port)
        started.append(start([*what, *options], devices, {**environment, **(more or {})}))
    try:
        yield started
    finally:
        for process in started:
            for child in children(process.pid):
                os.kill(child, signal.SIGCONT)
            process.kill()
            process.communicate()


def children(process: int) -> list[int]:
    """The numbers of the processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True)
    return list(map(int, found.stdout.split()))


def wait_for(step: int, folder: Path, started: list[subprocess.Popen[str]]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if any(path.name >= f"step-{step:08d}" for path in folder.glob("checkpoints/step-*")):
            return
        for process in started:
            assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("nothing was saved")


def ended(started: list[subprocess.Popen[str]], within: float = PATIENCE) -> list[tuple[int, str]]:
    """(exit code, output) of each."""
    end = time.monotonic() + within
    outputs = [process.communicate(timeout=max(end - time.monotonic(), 0.1))[0] for process in started]
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
