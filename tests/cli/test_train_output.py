"""`approxtrain train` whose output nobody reads any more, or no disk takes: it trains on to the end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

TRAIN = ("train", "quickstart", "model.target=tests.networks:Tiny", "train.epochs=2", "--out", "run")


def assert_trained(folder: Path) -> None:
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 2
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "train"] == [1, 2]
    assert (folder / "checkpoints" / "step-00000010" / "arrays.npz").is_file()


@pytest.mark.gate
def test_a_reader_that_goes_away_ends_no_run_and_is_mentioned_once(start, images, tmp_path):
    process = start(*TRAIN, *images, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "starting jax …\n"
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=120) == 0
    assert err == "warning: standard output is gone (Broken pipe). The run goes on without it.\n"
    assert_trained(tmp_path / "run")


@pytest.mark.gate
def test_a_full_disk_under_standard_output_ends_no_run(start, images, tmp_path):
    with open("/dev/full", "w") as full:
        process = start(*TRAIN, *images, stdout=full, stderr=subprocess.PIPE)
        err = process.stderr.read()
    assert process.wait(timeout=120) == 0
    assert err == "warning: standard output is gone (No space left on device). The run goes on without it.\n"
    assert_trained(tmp_path / "run")


@pytest.mark.gate
def test_both_outputs_may_be_gone(start, images, tmp_path):
    with open("/dev/full", "w") as full:
        process = start(*TRAIN, *images, stdout=full, stderr=full)
        assert process.wait(timeout=120) == 0
    assert_trained(tmp_path / "run")


@pytest.mark.gate
def test_a_run_that_was_started_without_outputs_writes_its_files_as_ever(start, images, tmp_path):
    closed = "import os; sys.stdout = sys.stderr = None; os.close(1); os.close(2); main()"  # as `>&- 2>&-` does
    process = start(*TRAIN, *images, code=closed)
    assert process.wait(timeout=120) == 0
    assert_trained(tmp_path / "run")


def test_a_message_that_cannot_be_written_changes_no_exit_code(start):
    with open("/dev/full", "w") as full:
        process = start("train", "quickstrat", stdout=subprocess.PIPE, stderr=full)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
def test_a_reader_of_errors_that_goes_away_changes_no_exit_code(start, debug):
    process = start("train", "quickstrat", *debug, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    process.stderr.close()
    process.stderr = None  # nothing is left to read when the test ends
    assert process.wait(timeout=60) == 2
