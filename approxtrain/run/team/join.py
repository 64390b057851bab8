"""Who belongs to a team of processes, and the start of jax's distributed runtime. Importing it imports no jax."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from approxtrain.errors import ConfigError
from approxtrain.run.team.team import Team

HEARTBEAT = 10
"""Seconds without a sign of life after which a process counts as lost."""
STUCK = 600
"""Seconds after which a sum over processes counts as stuck, on a CPU: longer than one waits for another that reads its
images, compiles, or writes a checkpoint. Who has gone is found by heartbeats."""
START = 300
"""Seconds that the processes have for finding each other."""


@dataclass(frozen=True)
class Place:
    """Where the processes meet, as the command line is given it."""

    coordinator: str
    """HOST:PORT of process 0."""
    count: int
    number: int


def place(coordinator: str | None, count: int | None, number: int | None) -> Place | None:
    """The three options together; None where none is given. ConfigError with all that is wrong."""
    given = {"--coordinator": coordinator, "--num-processes": count, "--process-id": number}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        return None
    if coordinator is None or count is None or number is None:
        raise ConfigError(
            f"{' and '.join(missing)}: left out. Several processes need all of --coordinator HOST:PORT, "
            "--num-processes P and --process-id I; or --distributed, where the cluster tells."
        )
    problems = []
    if not re.fullmatch(r"\S+:\d{1,5}", coordinator):
        problems.append(f"--coordinator (={coordinator!r}) must be HOST:PORT of process 0, such as node1:9911.")
    if count < 1:
        problems.append(f"--num-processes (={count}) must be at least 1.")
    elif not 0 <= number < count:
        problems.append(f"--process-id (={number}) must be from 0 to {count - 1}: there are {count} processes.")
    if problems:
        raise ConfigError(problems)
    return Place(coordinator, count, number)


def could_not_meet(where: Place | None) -> str:
    """Said where the others are not found in time."""
    which = f"Process {where.number} of {where.count}" if where else f"This process ({found(os.environ)})"
    return (
        f"{which} could not meet the others{f' at {where.coordinator}' if where else ''}. All of them must be started "
        f"within {START // 60} minutes, each with another number, with the same coordinator, which is HOST:PORT of the "
        "machine of process 0."
    )


def refuse_a_taken_port(where: Place) -> None:
    """ConfigError where process 0 cannot listen."""
    port = int(where.coordinator.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--coordinator (={where.coordinator!r}): process 0 cannot listen at port {port} of this machine "
                f"({getattr(error, 'strerror', None) or error}). Perhaps another process 0 does already: choose "
                "another port, from 1024 to 65535."
            ) from None


def join(where: Place | None) -> Team:
    """Start jax's runtime and wait for the others; None: as jax finds them by itself. Before jax has a device.

    ConfigError where jax finds no cluster, or the processes do not find each other.
    """
    set_up_for_failure()
    import jax

    try:
        jax.distributed.initialize(
            where and where.coordinator,
            where and where.count,
            where and where.number,
            initialization_timeout=START,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        raise ConfigError(
            f"jax finds no cluster that it knows ({found(os.environ)}): {_first_line(error)} Give --coordinator "
            "HOST:PORT, --num-processes P and --process-id I."
        ) from None
    except RuntimeError as error:
        raise ConfigError(f"{could_not_meet(where)} ({_first_line(error)})") from None
    from jax.experimental import multihost_utils

    # a signal before any process has said where it is would be lost
    multihost_utils.reached_preemption_sync_point(0)
    return Team(jax.process_index(), jax.process_count())


def connect(team: Team) -> None:
    """Have every process meet the others in each of the groups that sums will be over: of one device each, and of all.

    On a CPU they have 30 seconds for their first sum in a group, whatever they are doing; after it they wait.
    ConfigError where they have different numbers of devices.
    """
    import jax
    import numpy as np

    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        counts = ", ".join(f"process {number} has {devices[number]}" for number in sorted(devices))
        raise ConfigError(f"All processes must have the same number of devices: {counts}.")
    team.agreed(None)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
    by_device, everywhere = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*names)) for names in (("all",), ())
    )
    ones = jax.make_array_from_callback((mesh.size,), by_device, lambda _: np.ones(1, np.int32))
    assert int(jax.jit(lambda x: x.sum(), out_shardings=everywhere)(ones)) == mesh.size


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def set_up_for_failure() -> None:
    """On a CPU jax waits 30 minutes for a process that is alive and gets nowhere."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_collective_timeout_seconds" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_collective_timeout_seconds={STUCK}".strip()


_SIGNS = {
    "SLURM": ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    "Open MPI": ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "Kubernetes": ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"),
    "Cloud TPU": ("TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"),
}
"""What each cluster sets in the environment of a process, as jax looks for it."""


def found(environment: Mapping[str, str]) -> str:
    """What the environment tells of a cluster, in words."""
    for name, signs in _SIGNS.items():
        there = [sign for sign in signs if sign in environment]
        if len(there) == len(signs):
            return f"{name}: {', '.join(f'{sign}={environment[sign]}' for sign in signs)}"
        if there:
            missing = ", ".join(sign for sign in signs if sign not in environment)
            return f"{name} as it seems, by {there[0]}, but without {missing}"
    return f"no variable of {', '.join(_SIGNS)} is set"
