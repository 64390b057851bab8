"""`approxtrain train`: what it says while it trains, how it ends, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from approxtrain import models
from approxtrain.config import OptimizerConfig
from approxtrain.run import curves
from approxtrain_cli import progress

pytestmark = pytest.mark.both

FIRST_EPOCH_ZERO = 'schedule={ rules = [{ method = "zero", layers = [2], epochs = { to = 1 } }] }'
OWN_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); main()"
"""The process becomes the one that Ctrl-C reaches."""


class Finished(NamedTuple):
    """A run that has ended: its folder, and what was printed."""

    folder: Path
    lines: list[str]
    err: str


TINY = "model.target=tests.networks:Tiny"


@pytest.fixture(scope="module")
def finished(call, images, two_layers, draw_curves, tmp_path_factory) -> Finished:
    """Two epochs, with another column in each."""
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", lambda name: two_layers)
        patch.setattr(curves, "plot", draw_curves)
        ended = call("train", "quickstart", *images, "train.epochs=2", FIRST_EPOCH_ZERO, "--out", folder)
    assert ended.code == 0, ended.err
    return Finished(folder, ended.out.splitlines(), ended.err)


@pytest.fixture
def copy(finished, small, tmp_path) -> Path:
    """The folder of the run that has ended, to do with as a test likes."""
    return shutil.copytree(finished.folder, tmp_path / "copy")


def begins(lines: list[str], *words: str) -> list[str]:
    return [line for line in lines if line.startswith(words)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def epochs_in(folder: Path) -> list[int]:
    """The epochs that metrics.jsonl has training rows for."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["epoch"] for row in rows if row["kind"] == "train"]


def test_a_dry_run_shows_the_whole_configuration_and_trains_nothing(call, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call("train", "cnn2-approx", *images, "train.epochs=3", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    shown = tomllib.loads(ended.out)  # what is not configuration is a comment
    assert (shown["train"]["epochs"], shown["train"]["seed"], shown["data"]["name"]) == (3, 0, "mine")
    assert shown["optimizer"].keys() == OptimizerConfig.model_fields.keys() - {"clip", "dropback", "prunetrain"}
    assert begins(ended.out.splitlines(), "# ") == [
        "# cnn2: 2 convolutions, 2 distinct columns",
        "# mine: 100 training and 20 validation images",
        "# 3 epochs of 5 steps = 15 steps; nothing was trained",
    ]
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_an_epoch_is_a_plain_line(finished):
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(finished.lines))
    figures = r"loss \d+\.\d{4}  training \d+\.\d\d%  validation \d+\.\d\d%  [\d,]+ images/s"
    epochs = begins(finished.lines, "epoch")
    assert [bool(re.fullmatch(rf"epoch {n} of 2  {figures}", line)) for n, line in enumerate(epochs, 1)] == [True] * 2
    assert finished.err == ""


def test_the_columns_are_announced_before_the_first_step(finished):
    told, *epochs = begins(finished.lines, "compiling", "epoch")
    assert told == "compiling columns 1 to 2 of 2 …"
    assert [line[:12] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]


def test_the_opening_tells_network_data_schedule_and_folder(finished):
    assert begins(finished.lines, "model", "data", "schedule", "steps", "folder") == [
        "model     two-layers, 2 convolutions",
        "data      mine: 100 training images, 20 to validate on (test)",
        "schedule  rules: full 75%, zero 25% of the cells; 2 distinct columns",
        "steps     10 in 2 epochs",
        f"folder    {finished.folder}",
    ]


def test_the_end_tells_accuracy_time_a_step_curves_and_logs(finished):
    accuracy, step, curves, logs = finished.lines[-4:]
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert accuracy == (
        f"accuracy  final {summary['final_accuracy']:.2%}, best {summary['best_accuracy']:.2%} "
        f"in epoch {summary['by_seed'][0]['best_epoch']}, on mine (test)"
    )
    assert re.fullmatch(r"step      \d+\.\d ms \(quartiles .*, n=9\), \d+\.\d s of compiling besides", step)
    named = [curves.removeprefix("curves    "), *logs.removeprefix("logs      ").split(", ")]
    assert [Path(path).name for path in named] == ["curves.png", "metrics.jsonl", "summary.json", "tensorboard"]
    assert all(Path(path).exists() for path in named)


def test_what_a_run_writes_names_the_data_set(finished):
    assert tomllib.loads((finished.folder / "config.toml").read_text())["data"]["name"] == "mine"
    assert json.loads((finished.folder / "summary.json").read_text())["data"]["name"] == "mine"
    (newest, _) = sorted((finished.folder / "checkpoints").iterdir(), reverse=True)
    assert json.loads((newest / "meta.json").read_text())["meta"]["data"]["name"] == "mine"


def test_a_folder_that_holds_something_is_not_written_to(call, finished, small, images):
    before = content(finished.folder)
    ended = call("train", "quickstart", *images, "--out", finished.folder)
    assert (ended.code, ended.out) == (2, "")
    assert f"`{finished.folder}` is not empty" in ended.err
    assert f"approxtrain train --resume {finished.folder}" in ended.err
    assert content(finished.folder) == before


def test_a_resumed_run_with_more_epochs_goes_on_and_says_now_and_then_that_it_lives(call, copy, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    ended = call("train", "--resume", copy, "train.epochs=3")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "steps     15 in 3 epochs, going on from 10" in lines
    assert [line.split("  ")[0] for line in begins(lines, "step 1", "epoch")] == [
        *(f"step {step} of 15" for step in range(11, 16)),
        "epoch 3 of 3",
    ]
    assert epochs_in(copy) == [1, 2, 3]
    assert tomllib.loads((copy / "config.toml").read_text())["train"]["epochs"] == 3


def test_a_resumed_run_refuses_every_change_that_would_make_it_another(call, copy):
    before = content(copy)
    ended = call("train", "--resume", copy, "train.seed=1", "optimizer.decay=0.5", "train.epochs=1")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: 3 problems in the configuration:\n")
    assert "train.seed: it was 0 and cannot become 1" in ended.err
    assert "optimizer.decay: it was " in ended.err
    assert "train.epochs: it was 2 and can only grow, not become 1: what was" in ended.err
    assert content(copy) == before


def test_a_run_whose_checkpoints_are_all_damaged_ends_with_5(call, copy):
    for file in (copy / "checkpoints").glob("*/meta.json"):
        file.write_bytes(file.read_bytes().replace(b"mine", b"mone"))
    ended = call("train", "--resume", copy, "train.epochs=3")
    assert ended.code == 5
    assert "can be used" in ended.err
    assert "step-00000010: " in ended.err
    assert "step-00000005: " in ended.err


@pytest.mark.parametrize("more", [["quickstart"], ["--dry-run"], ["--out", "other"]], ids=lambda more: more[0])
def test_resume_takes_neither_preset_nor_out_nor_dry_run(call, more, finished):
    ended = call("train", "--resume", finished.folder, *more)
    assert (ended.code, ended.out) == (2, "")
    assert "give no preset, --out or --dry-run with it" in ended.err


def test_a_folder_that_is_no_run_cannot_be_resumed(call, tmp_path):
    ended = call("train", "--resume", tmp_path)
    assert ended.code == 2
    assert f"`{tmp_path}` holds no config.toml" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_all_errors_of_a_configuration_are_reported_at_once_before_a_folder_is_made(call, tmp_path):
    wrong = ["train.epoch=3", "model.name=resnet21", "train.batch_size=0"]
    ended = call("train", "quickstart", *wrong, "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    head, *problems = ended.err.splitlines()
    assert head == "error: 3 problems in the configuration:"
    model, batch, epoch = sorted(problems)
    assert model.startswith("  - `model.name`: no model is called 'resnet21'")
    assert "there are cnn2, cnn5, resnet14, resnet20, " in model
    assert batch.startswith("  - `train.batch_size` (=0) must be ")
    assert epoch.startswith("  - `train.epoch` is not a key")
    assert epoch.endswith("Did you mean 'epochs'?")
    assert not (tmp_path / "run").exists()


def test_missing_images_end_with_3_and_the_ways_to_get_some(call, tmp_path):
    ended = call("train", "cnn2-approx", f"data.dir={tmp_path}", "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (3, "")
    assert f"There are no images of `cifar10` in `{tmp_path}`" in ended.err
    assert "approxtrain data fetch" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_ends_with_4_and_what_to_try(call, small, images, tmp_path):
    ended = call("train", "quickstart", *images, "optimizer.learning_rate=1e30", "--out", tmp_path / "run")
    assert ended.code == 4
    assert re.search(r"error: The loss of step \d+ is (nan|inf)", ended.err)
    assert "optimizer.learning_rate" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.gate
def test_a_terminated_run_is_locked_while_it_lives_saves_and_can_be_finished(call, start, images, tmp_path):
    process = start(
        *("train", "quickstart", TINY, *images, "train.epochs=12", "--out", "run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("epoch 1 of 12") for line in lines)
    process.send_signal(signal.SIGSTOP)  # so that it cannot end before it has been looked at
    locked = call("train", "--resume", tmp_path / "run")
    assert (locked.code, locked.out) == (7, "")
    assert f"is being written by process {process.pid} on " in locked.err
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    stopped = re.fullmatch(
        r"Stopped by a signal after step (\d+), which is saved. "
        r"Go on with: approxtrain train --resume run\n",
        err,
    )
    assert stopped
    step = int(stopped[1])
    assert 5 <= step < 60
    ended = call("train", "--resume", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert f"steps     60 in 12 epochs, going on from {step}\n" in ended.out
    assert epochs_in(tmp_path / "run") == list(range(1, 13))


@pytest.mark.gate
def test_a_terminal_shows_a_bar_and_ctrl_c_ends_with_130(start, images, tmp_path):
    ours, its = os.openpty()
    process = start(
        *("train", "quickstart", TINY, *images, "train.epochs=1000", "--out", "run"),
        code=OWN_TERMINAL,
        variables={"TERM": "xterm", "COLUMNS": "80"},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    figures = r"━+ +\d+/5000 loss \d+\.\d{3}  [\d,]+ images/s full 7\d%, approx 2\d% (-:--|\d:\d\d):(--|\d\d)"
    shown = read_until(ours, figures)
    os.write(ours, b"\x03")
    rest = read_until(ours, r"Go on with: approxtrain train --resume run")
    assert process.wait(timeout=60) == 130
    os.close(ours)
    assert shown.index("folder    run") < shown.index("compiling columns 1 to 2 of 2 …") < shown.index("loss ")
    assert rest.index("stopping after this step …") < rest.index("Stopped by a signal after step ")
    assert "Traceback" not in shown + rest
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_the_compiling_of_a_probe_is_announced(tmp_path, capsys):
    from approxtrain_cli.progress import Progress

    for cells in (1, 3):
        Progress(tmp_path).compiling_probe(cells)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["compiling the probe of 1 approximated layer …", "compiling the probe of 3 approximated layers …"]


def read_until(terminal: int, pattern: str, seconds: float = 120) -> str:
    """What the terminal shows, without its control codes, up to the pattern."""
    raw, end = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw.decode(errors="replace"))
        if re.search(pattern, shown):
            return shown
        assert ready, f"{pattern!r} did not appear in:\n{shown}"
        try:
            raw += os.read(terminal, 65536)
        except OSError:  # the process has ended
            raise AssertionError(f"{pattern!r} did not appear in:\n{shown}") from None
