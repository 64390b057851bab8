"""`approxtrain reproduce`: what it shows, how it ends, and how the same command goes on."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from approxtrain import models
from approxtrain.models import Model
from approxtrain.paper import experiments
from approxtrain.run import archive
from approxtrain.run.folder import RunFolder
from approxtrain_cli import bench_kernel

pytestmark = pytest.mark.gate

ROOT = Path(__file__).parents[2]
SMALL = """
from dataclasses import replace
from approxtrain import models
from approxtrain.models import Model
from approxtrain.paper import experiments
models.get = lambda name: Model(name, "two convolutions", "tests.networks:Tiny")
whole = experiments.get
experiments.get = lambda name: replace(whole(name), rows=whole(name).rows[:2])
main()
"""
"""The program with the networks of `_small_networks` and the rows of `two_rows`."""


@pytest.fixture(autouse=True, scope="module")
def _small_networks(two_layers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", lambda name: Model(name, two_layers.summary, two_layers.target))
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def two_rows() -> Iterator[list[str]]:
    """From now on each table has only `full` and `zero`; → the names of their runs in Table 2."""
    whole = experiments.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "get", lambda name: replace(whole(name), rows=whole(name).rows[:2]))
        yield ["cnn2-full-mine-e1-s0", "cnn2-zero-mine-e1-s0"]


@pytest.fixture(scope="module")
def arguments(images) -> list[str]:
    """Table 2 on 100 images, one epoch of five steps a run."""
    return ["reproduce", "table2", "figure5", *images, "train.epochs=1", "train.chunk=1", "--out"]


@pytest.fixture
def command(arguments, tmp_path) -> list[str]:
    return [*arguments, str(tmp_path / "out")]


@pytest.fixture(scope="module")
def trained(call, arguments, two_rows, tmp_path_factory):
    """How the command ended that trained two rows, and its folder."""
    out = tmp_path_factory.mktemp("trained") / "out"
    return call(*arguments, out), out


@pytest.fixture
def done(trained, tmp_path) -> Path:
    """A copy of the folder in which two rows were trained."""
    return Path(shutil.copytree(trained[1], tmp_path / "out"))


def lines(out: str, *words: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(words)]


def archives(folder: Path) -> dict[str, archive.Archive]:
    return {path.stem: archive.read(path) for path in sorted(folder.glob("*.json"))}


def test_a_dry_run_shows_every_run_with_its_time_and_trains_nothing(call, command, tmp_path):
    ended = call(*command, "--seeds", 2, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    table = lines(ended.out, " cnn2-")
    methods = ("full", "zero", "random", "approx-paper", "approx", "pooled")
    assert [line.split()[0] for line in table] == [f"cnn2-{m}-mine-e1-s{seed}" for seed in (0, 1) for m in methods]
    assert all(re.search(r" 1   to run +\d+:\d\d:\d\d *$", line) for line in table)
    assert re.search(r"^expected  12 of 12 runs, about \d+:\d\d:\d\d on cpu: ", ended.out, re.M)
    assert lines(ended.out, "measuring") == ["measuring a step of cnn2 …"]
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["runs", ".steps.json"]
    assert lines(call(*command, "--dry-run").out, "measuring") == []


def test_it_trains_what_is_missing_and_says_what_to_do_next(trained, two_rows):
    ended, out = trained
    assert (ended.code, ended.err) == (0, "")
    assert lines(ended.out, "run ") == [f"run {number} of 2  {name}" for number, name in enumerate(two_rows, start=1)]
    assert len(lines(ended.out, "finished  best")) == 2
    assert ended.out.splitlines()[-2:] == [
        f"archives  {out}: 2 finished, 0 diverged",
        f"report    approxtrain report --paper {out} --out report",
    ]
    assert list(archives(out)) == two_rows


def test_what_is_there_is_not_trained_again(call, command, two_rows, done):
    full, zero = two_rows
    first = archives(done)
    shutil.rmtree(done / "runs" / full)
    (done / f"{zero}.json").unlink()
    again = call(*command)
    assert lines(again.out, "run ") == [f"run 1 of 1  {zero}"]
    assert "epoch 1 of 1" not in again.out
    assert re.search(rf"{full} +1   finished, best \d+\.\d\d% ", again.out)
    assert re.search(rf"{zero} +1   finished, best \d+\.\d\d%; to be archived ", again.out)
    assert archives(done) == first


def test_a_run_that_another_process_is_at_and_one_with_damaged_checkpoints_are_passed_over(
    call, command, two_rows, done
):
    for name in two_rows:
        (done / f"{name}.json").unlink()
        (done / "runs" / name / "summary.json").unlink()  # so that it is not finished
    full, zero = (done / "runs" / name for name in two_rows)
    for file in full.glob("checkpoints/*/meta.json"):
        file.write_bytes(file.read_bytes().replace(b"mine", b"mone"))
    with RunFolder.open(zero):
        ended = call(*command)
    assert ended.code == 5
    (failed,), (skipped,) = lines(ended.out, "failed"), lines(ended.out, "skipped")
    assert "can be used" in failed
    assert f"`{zero}` is being written by process" in skipped
    assert "can be used" in ended.err


@pytest.mark.long
def test_a_run_that_diverges_does_not_stop_the_others(call, command, two_rows, tmp_path):
    command += ["optimizer.learning_rate=1e30"]
    ended = call(*command)
    assert (ended.code, ended.err) == (0, "")
    assert len(lines(ended.out, "diverged  diverged at step ")) == 2
    assert "0 finished, 2 diverged" in ended.out
    assert [found.status for found in archives(tmp_path / "out").values()] == ["diverged"] * 2
    shown = call(*command, "--dry-run").out
    assert re.search(rf"{two_rows[0]} +1   diverged at step \d+: the loss is (nan|inf)", shown)
    assert "expected  0 of 2 runs" in shown


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGTERM])
def test_a_reproduction_that_is_stopped_loses_at_most_an_epoch(number, call, start, images, two_rows, tmp_path):
    command = ["reproduce", "table2", *images, "train.epochs=30", "--out", str(tmp_path / "out")]
    process = start(*command, code=SMALL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = 0
    for line in iter(process.stdout.readline, ""):
        seen = max(seen, int(line.split()[1])) if line.startswith("epoch ") else seen
        if seen == 3:
            process.send_signal(number)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    if number == signal.SIGTERM:
        assert err == (
            "Stopped by a signal; what was trained is saved. "
            f"Go on with the same command: approxtrain {' '.join(command)}\n"
        )
    shown = call(*command, "--dry-run").out
    done = re.search(r"cnn2-full-mine-e30-s0 +30   to go on: (\d+) of 30 epochs", shown)
    assert done
    assert int(done[1]) >= seen
    if number == signal.SIGTERM:
        return  # it goes on in the same way
    ended = call(*command)
    assert ended.code == 0, ended.err
    assert f"going on from {5 * int(done[1])}\n" in ended.out
    assert "2 finished, 0 diverged" in ended.out
    (own,) = (path for path in (tmp_path / "out").glob("cnn2-full-*.json"))
    assert [row["epoch"] for row in archive.read(own).epochs] == list(range(1, 31))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "say what to reproduce: table1, .*, figure8, or all"),
        (["table6"], 2, "the paper has no 'table6' to reproduce"),
        (["table2", "schedule.method=zero"], 2, "`schedule.method` is not for all runs"),
        (["table2", "train.epoch=3"], 2, "`train.epoch` is not a key"),
        (["table2", "--budget", "short", "data.dir=nowhere"], 3, "There are no images of `cifar10`"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_made(arguments, code, message, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call("reproduce", *arguments)
    assert ended.code == code
    assert re.search(message, ended.err)
    assert "jax" not in ended.out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """In place of a measurement a result of earlier; → the dtypes that were asked for."""
    asked_for = []

    def measure(console, cases, options):
        asked_for.append(options["dtype"])
        return json.loads((ROOT / "results/bench/kernel-paper-cpu.json").read_text("utf-8"))

    monkeypatch.setattr(bench_kernel, "measure", measure)
    monkeypatch.setattr(bench_kernel, "show", lambda console, document: None)
    return asked_for


def test_table_1_is_measured_once(call, measured, tmp_path):
    out = tmp_path / "out"
    assert "table1" in call("reproduce", "table1", "--out", out, "--dry-run").out
    assert not out.exists()
    first, second = (call("reproduce", "table1", "--out", out) for _ in range(2))
    assert (first.code, second.code, measured) == (0, 0, ["float32"])
    assert json.loads((out / "table1.json").read_text())["command"] == "bench-kernel"
    assert "measured on cpu: AMD EPYC" in second.out


def test_a_name_that_another_run_has_is_said_before_anything_is_trained(call, command, done):
    for more in ([], ["--dry-run"]):
        ended = call(*command, *more, "optimizer.learning_rate=0.5")
        assert ended.code == 2
        assert "cnn2-full-mine-e1-s0.json` is another run, of another configuration: choose another --out." in ended.err
        assert "jax" not in ended.out


def test_a_file_that_is_no_table_1_is_left_alone(call, measured, tmp_path):
    (tmp_path / "table1.json").write_text("{}")
    ended = call("reproduce", "table1", "--out", tmp_path)
    assert (ended.code, measured) == (2, [])
    assert "is no Table 1" in ended.err
