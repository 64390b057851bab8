"""The run folder: never written over, and written by one process at a time."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from approxtrain import disk
from approxtrain.errors import ConfigError, DiskError, LockedError
from approxtrain.run.folder import CONFIG, RunFolder, default_path

HOLD = """
import sys, time
from pathlib import Path
from approxtrain.run.folder import RunFolder
with RunFolder.create(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_create_makes_the_folder_with_its_parents_and_locks_it(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "first"
    with RunFolder.create(path) as folder:
        assert folder.path == path
        assert [entry.name for entry in path.iterdir()] == ["run.lock"]
        with pytest.raises(LockedError):
            RunFolder.create(path)
    with RunFolder.create(path):  # nothing but the lock was left in it
        pass


def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError) as error:
        RunFolder.create(tmp_path)
    assert f"--resume {tmp_path}" in str(error.value)
    assert "another --out" in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_run_leaves_that_was_killed_before_it_had_a_configuration_is_nothing(tmp_path: Path) -> None:
    disk.unfinished(tmp_path / CONFIG).write_text("[model")
    (tmp_path / "process-1.log").write_text("of several processes, one of which had other images")
    (tmp_path / "process-my.log").write_text("somebody's own")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder.create(tmp_path)
    (tmp_path / "process-my.log").unlink()
    with RunFolder.create(tmp_path) as folder:
        disk.write(folder.config, "")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["config.toml", "process-1.log", "run.lock"]


def test_the_way_to_go_on_is_quoted_for_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "my run; rm"
    path.mkdir()
    (path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=f"`approxtrain train --resume '{path}'`"):
        RunFolder.create(path)


def test_a_file_in_the_place_of_the_folder_or_above_it_is_called_so(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"my\.toml` is a file, and a run needs a folder: give another --out"):
        RunFolder.create(file)
    with pytest.raises(DiskError, match="What should be a folder is a file: choose another path"):
        RunFolder.create(file / "run")


def test_writing_where_no_folder_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"The folder is not there .*make it"):
        disk.write(tmp_path / "nodir/x", "")
    with pytest.raises(DiskError, match=r"It is a folder: name a file"):
        disk.write(tmp_path, "")


def test_open_wants_the_folder_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.toml"):
        RunFolder.open(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no config\.toml"):
        RunFolder.open(tmp_path / "absent")
    disk.write(tmp_path / "config.toml", "seed = 0\n")
    with RunFolder.open(tmp_path) as folder:
        assert folder.config.read_text() == "seed = 0\n"
        assert folder.checkpoints == tmp_path / "checkpoints"


def test_a_second_process_is_told_who_holds_the_folder_and_kill_9_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        disk.write(path / "config.toml", "")
        with pytest.raises(LockedError, match=f"process {holder.pid} on {re.escape(socket.gethostname())}"):
            RunFolder.open(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with RunFolder.open(path):
            assert str(os.getpid()) in (path / "run.lock").read_text()


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written: Not a directory"):
        RunFolder.create(tmp_path / "file" / "run")


def test_the_default_name_tells_the_run_and_is_never_taken(tmp_path: Path) -> None:
    first = default_path("cnn2", "my rules/2", seed=3, root=tmp_path)
    assert first.parent == tmp_path
    assert re.fullmatch(r"cnn2-my-rules-2-s3-\d{8}T\d{6}Z", first.name)
    first.mkdir()
    assert not default_path("cnn2", "my rules/2", seed=3, root=tmp_path).exists()


def test_a_write_that_fails_leaves_the_old_content_and_no_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    disk.write(path, "old")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(DiskError, match=r"summary\.json` cannot be written: No space left on device\. Free some"):
        disk.write(path, "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("summary.json", "old")]


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")
