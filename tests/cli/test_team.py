"""`approxtrain train` as several processes: the same run as on the devices of one, and its end where one is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from approxtrain.run import checkpoint
from approxtrain_cli import member
from tests.cli.installed import ROOT, TINY
from tests.cli.team import (
    RULES,
    RUN,
    by_open_mpi,
    by_options,
    by_slurm,
    children,
    ended,
    free_port,
    losses,
    processes,
    start,
    wait_for,
)

BY_REPLICA = (
    'schedule={ rules = [{ method = "zero", layers = [2], replicas = { stop = 1, rotate = 1 }, epochs = { to = 2 } }], '
    "local = [{ every = 4, epochs = { from = 3 } }] }"
)
WITHIN = 40.0
"""Seconds after which the others must have ended where one is lost."""


@pytest.mark.gate
def test_two_processes_of_slurm_stop_together_and_one_goes_on_as_two_devices_would_have(tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    with processes([*RUN, "train.epochs=500", "train.checkpoint_every=2", "--out", str(shared)], 2, by=by_slurm) as two:
        wait_for(4, shared, two)
        two[1].send_signal(signal.SIGTERM)
        (first, said), (second, other) = ended(two)
    assert (first, second) == (143, 143), said + other
    assert "Stopped by a signal after step" in said
    assert "stopping after this step, all processes" in other
    _, meta = checkpoint.load_arrays(shared / "checkpoints")
    step = meta["rows"][0]
    assert f"after step {step}," in said
    assert (shared / "process-1.log").is_file()
    epochs = step // 8 + 1
    # the same configuration in one process, from its start, and from where the two stopped
    alone = start([*RUN, "train.epochs=500", "parallel.devices=2", "--out", str(whole)], 2, {})
    wait_for(8 * epochs, whole, [alone])
    alone.send_signal(signal.SIGTERM)
    assert ended([alone])[0][0] == 143
    goes_on = start(["--resume", str(shared)], 2, {})
    wait_for(8 * epochs, shared, [goes_on])
    goes_on.send_signal(signal.SIGTERM)
    code, said = ended([goes_on])[0]
    assert code == 143, said
    count = min(len(losses(whole)), len(losses(shared)))
    assert count >= epochs
    np.testing.assert_allclose(losses(shared)[:count], losses(whole)[:count], rtol=1e-4)


@pytest.mark.long
def test_a_process_that_takes_its_time_before_the_first_step_is_waited_for(tmp_path):
    """40 seconds to import the network: first the first process, and then the others, before anything is trained."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(40)\nfrom tests.networks import Small\n")
    run = [*RUN, "model.name=null", "model.target=slow:Small", "train.epochs=1", "--out", str(tmp_path / "run")]
    with processes(run, 2, devices=2, more={"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}) as two:
        for code, said in ended(two, within=300):
            assert code == 0, said


def test_only_an_error_of_the_runtime_says_that_another_process_was_lost():
    lost = "UNKNOWN: Gloo all-reduce failed: Connection closed by peer"
    assert member.is_of_partners(ValueError(lost))
    assert member.is_of_partners(JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out"))
    for other in (
        ValueError("my network: the barrier must be positive"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory in a collective. INTERNAL: Gloo"),
        KeyError(lost),
    ):
        assert not member.is_of_partners(other)


@pytest.mark.long
@pytest.mark.parametrize(("lost", "how"), [(0, "KILL"), (1, "KILL"), (0, "STOP"), (1, "STOP")])
def test_where_a_process_is_lost_the_others_end_soon_with_75_and_a_restart_goes_on(lost, how, tmp_path):
    out = tmp_path / "run"
    with processes([*RUN, "train.epochs=5000", "--out", str(out)], 2) as two:
        wait_for(8, out, two)
        (child,) = children(two[lost].pid)
        os.kill(child, signal.Signals[f"SIG{how}"])
        others = [process for process in two if process is not two[lost]] if how == "STOP" else two
        for code, said in ended(others, WITHIN):
            assert code == 75, said
            assert said.rstrip().splitlines()[-1].startswith("error: ")
            assert "--resume DIR" in said
    before = max(path.name for path in (out / "checkpoints").glob("step-*"))
    with processes(["--resume", str(out)], 2) as two:
        wait_for(int(before[5:]) + 8, out, two)
        two[0].send_signal(signal.SIGTERM)
        assert [code for code, _ in ended(two)] == [143, 143]


@pytest.mark.long
def test_a_signal_in_the_last_second_of_a_run_does_not_keep_it_from_ending(tmp_path):
    out = tmp_path / "run"
    with processes([*RUN, "train.epochs=12", "--out", str(out)], 2) as two:
        wait_for(88, out, two)
        two[0].send_signal(signal.SIGTERM)
        codes = [code for code, _ in ended(two, WITHIN)]
    assert codes in ([0, 0], [143, 143])
    assert (out / "checkpoints/step-00000096").exists() == (codes == [0, 0])


@pytest.mark.long
def test_several_steps_a_call_are_stopped_as_well_and_a_run_that_is_over_stays_so(tmp_path):
    out = tmp_path / "run"
    chunked = [*TINY, 'schedule={ name = "full" }', "train.trackers=[]", "train.chunk=4", "train.epochs=4000"]
    with processes([*chunked, "--out", str(out)], 2) as two:
        wait_for(8, out, two)
        two[0].send_signal(signal.SIGTERM)
        assert [code for code, _ in ended(two)] == [143, 143]
    whole = tmp_path / "whole"
    with processes([*chunked, "train.epochs=1", "--out", str(whole)], 2) as two:
        assert [code for code, _ in ended(two)] == [0, 0]
    with processes(["--resume", str(whole)], 2) as two:
        assert [code for code, _ in ended(two)] == [0, 0]


@pytest.mark.long
def test_what_the_first_process_refuses_ends_all_with_its_code_and_words(tmp_path):
    with processes(
        [*RUN, "train.epochs=1", "data.dir=nowhere", "data.name=mine", "--out", str(tmp_path / "run")], 2
    ) as two:
        (first, said), (second, other) = ended(two)
    assert (first, second) == (3, 3), said + other
    assert "nowhere" in said
    assert "Process 0: " in other


@pytest.mark.long
@pytest.mark.parametrize(("devices", "schedule"), [(1, RULES), (4, RULES), (1, BY_REPLICA), (4, BY_REPLICA)])
def test_the_losses_are_those_of_as_many_devices_of_one_process(devices, schedule, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    run = [*RUN, schedule, "train.epochs=3"]
    with processes([*run, "--out", str(together)], 2, devices, by_open_mpi) as two:
        for code, said in ended(two):
            assert code == 0, said
    one = start([*run, f"parallel.devices={2 * devices}", "--out", str(alone)], 2 * devices, {})
    assert ended([one])[0][0] == 0
    np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-5)
    (ours, _), (right, _) = (checkpoint.load_arrays(path / "checkpoints") for path in (together, alone))
    for name, array in right.items():
        np.testing.assert_allclose(ours[name].astype(float), array.astype(float), rtol=1e-4, atol=1e-5, err_msg=name)


STREAMED = [*RUN, "data.stream=true", "data.workers=1", "train.checkpoint_every=2"]


@pytest.mark.long
def test_two_processes_that_each_stream_a_part_have_the_losses_of_one_and_one_goes_on_from_them(tmp_path):
    together, alone, mixed = (tmp_path / name for name in ("together", "alone", "mixed"))
    with processes([*STREAMED, "train.epochs=3", "--out", str(together)], 2) as two:
        for code, said in ended(two):
            assert code == 0, said
    with processes([*STREAMED, "train.epochs=500", "--out", str(mixed)], 2) as two:
        wait_for(10, mixed, two)
        two[1].send_signal(signal.SIGTERM)
        assert [code for code, _ in ended(two)] == [143, 143]
    _, meta = checkpoint.load_arrays(mixed / "checkpoints")
    epochs = max(3, meta["rows"][0] // 8 + 1)
    for what in (["--resume", str(mixed), "parallel.devices=1"], [*STREAMED, "train.epochs=500", "--out", str(alone)]):
        one = start(what, 1, {})
        wait_for(8 * epochs, mixed if "--resume" in what else alone, [one])
        one.send_signal(signal.SIGTERM)
        code, said = ended([one])[0]
        assert code == 143, said
    right = losses(alone)
    np.testing.assert_allclose(losses(together)[:3], right[:3], rtol=1e-5)
    np.testing.assert_allclose(losses(mixed)[:epochs], right[:epochs], rtol=1e-4)
    summary = json.loads((together / "summary.json").read_text())
    assert (summary["devices"], summary["data_workers"]) == (2, 1)


def is_there(process: int) -> bool:
    """Whether it runs; one that has ended and that nobody has waited for does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True)
    return found.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.long
def test_what_reads_for_a_process_ends_with_it_and_with_the_others(tmp_path):
    with processes([*STREAMED, "train.epochs=5000", "--out", str(tmp_path / "run")], 2) as two:
        wait_for(10, tmp_path / "run", two)
        members = [children(process.pid)[0] for process in two]
        readers = [reader for member in members for reader in children(member)]
        assert len(readers) >= 2
        os.kill(members[1], signal.SIGKILL)
        assert [code for code, _ in ended(two, WITHIN)] == [75, 75]
        end = time.monotonic() + 10
        while time.monotonic() < end and any(map(is_there, readers)):
            time.sleep(0.1)
        assert not any(map(is_there, readers))


def test_processes_with_different_numbers_of_devices_are_told_so(tmp_path):
    port, run = free_port(), [*RUN, "train.epochs=1", "--out", str(tmp_path / "run")]
    two = [start([*run, *by_options(number, 2, port)[0]], devices, {}) for number, devices in enumerate((1, 2))]
    for code, said in ended(two):
        assert code == 2, said
        assert "must have the same number of devices: process 0 has 1, process 1 has 2." in said


def test_a_port_that_is_taken_is_told_at_once(call):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        found = call("train", *TINY, "--coordinator", where, "--num-processes", "2", "--process-id", "0")
    assert found.code == 2
    assert "cannot listen at port" in found.err


def test_what_is_wrong_with_the_command_is_told_before_the_others_are_waited_for(call):
    alone = ["--coordinator", "127.0.0.1:9", "--num-processes", "2", "--process-id", "0"]
    found = call("train", "quickstart", "train.epohcs=1", *alone)
    assert found.code == 2
    assert "epohcs" in found.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num-processes", "2"], "--coordinator and --process-id: left out"),
        (["--coordinator", "a:1", "--num-processes", "2", "--process-id", "5"], "must be from 0 to 1"),
        (["--coordinator", "a:1", "--num-processes", "2", "--process-id", "0", "--distributed"], "exclude each other"),
        (["--distributed", "--dry-run"], "--dry-run checks in one process"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_words(options, said, call):
    found = call("train", *options)
    assert found.code == 2
    assert said in found.err
