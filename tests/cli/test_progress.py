"""What is said at the end of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from approxtrain_cli.progress import Progress

SUMMARY = {
    "by_seed": [{"seed": 0, "best_epoch": 1}],
    "data": {"name": "mine", "validation": "test"},
    "step_ms": {},
    "final_accuracy": 0.5,
    "best_accuracy": 0.5,
}


def test_only_files_that_are_there_are_announced(tmp_path: Path, capsys):
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "summary.json").touch()
    Progress(tmp_path).conclude(SUMMARY)
    logs = capsys.readouterr().out.splitlines()[-1]
    assert logs == f"logs      {tmp_path / 'metrics.jsonl'}, {tmp_path / 'summary.json'}"


def test_weights_that_were_kept_are_told_where_not_all_are(tmp_path: Path, capsys):
    Progress(tmp_path).conclude(SUMMARY)
    assert "weights" not in capsys.readouterr().out
    Progress(tmp_path).conclude(SUMMARY | {"weights": 70618, "weights_kept": 7061.0, "weights_kept_sd": 0.0})
    told = capsys.readouterr().out
    assert "weights   7,061 ± 0 of 70,618 kept\n" in told
    assert "channels" not in told
    Progress(tmp_path).conclude(
        SUMMARY | {"weights": 70618, "weights_kept": 7061, "channels": 40, "channels_pruned": 3}
    )
    assert "channels  3 of 40 pruned\n" in capsys.readouterr().out


def test_of_a_stream_each_epoch_says_how_long_its_steps_waited(tmp_path: Path, capsys):
    progress = Progress(tmp_path)
    progress.work = SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(epochs=2)))
    row = {"epoch": 1, "loss": 1.5, "accuracy": 0.25, "images_per_second": 1234.5}
    progress.epoch(row)
    progress.epoch(row | {"data_wait_seconds": 3.21})
    line = "epoch 1 of 2  loss 1.5000  training 25.00%  1,234 images/s"
    assert capsys.readouterr().out.splitlines() == [line, f"{line}  waited 3.2 s for them"]
