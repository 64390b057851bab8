"""Faults 1 to 7, 10, 13, 14 and 20 of twenty, of files and their folder, against the installed program.

Each test bears its number. What is expected is ours: there is no `--no-fallback` (3), and a checkpoint that cannot be
written ends the run with code 6, which does not go on to try three times (6).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.installed import AT_STEP, LOOP, TINY, Program, outcome, steps, summary, until
from tests.sampling import chosen

pytestmark = pytest.mark.gate

SIXTEEN = ("train.epochs=2", "train.checkpoint_every=3", "train.validate_every=1")
"""Two epochs of eight steps."""
KILLS = {"within an epoch": 5, "at its end": 8, "one before the last": 15}
KILL = "import os, signal\ndef kill():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
CHECKPOINT = "approxtrain.run.checkpoint"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    program = Program(tmp_path_factory.mktemp("whole"))
    ended = program.train(*SIXTEEN)
    assert ended.code == 0, ended.err
    return program.folder / "run"


@pytest.fixture
def copy(whole: Path, program: Program) -> Path:
    return shutil.copytree(whole, program.folder / "run")


def limited(size: int) -> Callable[[], None]:
    """No file gets larger than so many bytes, as if the disk were full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("where", chosen(KILLS, ["within an epoch"]))
@pytest.mark.long
def test_01_a_killed_run_goes_on_bit_for_bit(program, whole, where):
    program.plant(LOOP, KILL + AT_STEP.format(step=KILLS[where], what="kill()"))
    assert program.train(*SIXTEEN).code == -signal.SIGKILL
    program.plant(LOOP, "")
    assert program.resume().code == 0
    assert outcome(program.folder / "run") == outcome(whole)


SAVES = {
    "half of the arrays": "savez = np.savez\n"
    "def half(path, **arrays):\n"
    "    savez(path, **arrays)\n"
    "    if '00000006' in str(path):\n"
    "        path.write_bytes(path.read_bytes()[:1000])\n"
    "        kill()\n"
    "np.savez = half\n",
    "before its name": "write = _write\n"
    "def written(folder, step, *rest):\n"
    "    write(folder, step, *rest)\n"
    "    step == 6 and kill()\n"
    "_write = written\n",
    "before older ones go": "found = _found\n"
    "def named(folder):\n"
    "    (folder / 'step-00000006').exists() and kill()\n"
    "    return found(folder)\n"
    "_found = named\n",
}


@pytest.mark.parametrize("moment", chosen(list(SAVES), ["before its name"]))
@pytest.mark.long
def test_02_a_kill_within_a_save_costs_that_save_at_most(program, whole, moment):
    program.plant(CHECKPOINT, KILL + SAVES[moment])
    assert program.train(*SIXTEEN).code == -signal.SIGKILL
    program.plant(CHECKPOINT, "")
    assert program.resume().code == 0
    assert outcome(program.folder / "run") == outcome(whole)
    assert not list((program.folder / "run" / "checkpoints").glob(".tmp-*"))


@pytest.mark.long
def test_03_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken(program, whole, copy):
    arrays = copy / "checkpoints" / "step-00000016" / "arrays.npz"
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    ended = program.resume()
    assert ended.code == 0
    assert "passed over: step-00000016: arrays.npz is damaged: its SHA-256 is not the one" in ended.out
    assert "Going on from step 15" in ended.out
    assert outcome(copy) == outcome(whole)


@pytest.mark.parametrize("damage", chosen(["truncated", "empty", "missing"], ["truncated"]))
@pytest.mark.long
def test_04_what_is_cut_empty_missing_or_no_checkpoint_is_passed_over(program, whole, copy, damage):
    saved = copy / "checkpoints"
    arrays = saved / "step-00000016" / "arrays.npz"
    if damage == "missing":
        arrays.unlink()
    else:
        os.truncate(arrays, arrays.stat().st_size // 2 if damage == "truncated" else 0)
    (saved / "step-00000099").mkdir()
    (saved / "step-00000077").write_text("a file")
    for garbage in ("step-abc", "step-", "notes", ".tmp-step-00000011"):
        (saved / garbage).mkdir()
    ended = program.resume()
    assert ended.code == 0
    assert "step-00000099: meta.json is missing" in ended.out
    assert "step-00000016: arrays.npz is " in ended.out
    assert outcome_of(copy, 16) == outcome_of(whole, 16)
    assert (saved / "notes").is_dir()


def outcome_of(folder: Path, step: int) -> tuple[bytes, bytes]:
    return (folder / "metrics.jsonl").read_bytes(), (folder / f"checkpoints/step-{step:08d}/arrays.npz").read_bytes()


@pytest.mark.long
def test_05_where_all_are_bad_each_is_listed_and_nothing_is_deleted(program, copy):
    for file in copy.glob("checkpoints/*/arrays.npz"):
        file.write_bytes(b"")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "run.lock"}
    ended = program.resume()
    assert ended.code == 5
    assert all(f"step-{step:08d}: arrays.npz is damaged" in ended.err for step in steps(copy))
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.long
def test_06_a_full_disk_while_saving_ends_with_6_and_the_run_goes_on_later(program, whole):
    ended = program.train(*SIXTEEN, before=limited(4000))
    assert ended.code == 6
    assert "error: `run/checkpoints/step-00000000` cannot be written: File too large." in ended.err
    assert program.resume().code == 0
    assert outcome(program.folder / "run") == outcome(whole)


def test_06_a_full_disk_under_the_rows_ends_with_6_and_the_run_goes_on_later(program, whole):
    program.plant(
        "approxtrain.run.row_file",
        "import errno\n"
        "append = RowFile.append\n"
        "def full(self, row):\n"
        "    with disk.explained(self._path):\n"
        "        if row['step'] == 16:\n"
        "            raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    append(self, row)\n"
        "RowFile.append = full\n",
    )
    ended = program.train(*SIXTEEN)
    assert ended.code == 6
    assert "metrics.jsonl` cannot be written: No space left on device. Free some space." in ended.err
    program.plant(LOOP, "")
    assert program.resume().code == 0
    assert outcome(program.folder / "run") == outcome(whole)


@pytest.mark.long
def test_06_a_full_disk_under_tensorboard_is_a_warning(program, whole):
    program.plant(
        "tensorboardX.record_writer",
        "def full(self, data):\n    raise OSError(28, 'No space left on device')\nRecordWriter.write = full\n",
    )
    ended = program.train(*SIXTEEN)
    assert ended.code == 6  # before the first step nothing is lost by an end
    assert "error: `run/tensorboard` cannot be written: No space left on device." in ended.err
    program.plant(
        "tensorboardX.record_writer",
        "write = RecordWriter.write\n"
        "def full(self, data):\n"
        "    if b'loss' in data:\n"
        "        raise OSError(28, 'No space left on device')\n"
        "    write(self, data)\n"
        "RecordWriter.write = full\n",
    )
    ended = program.resume()
    assert ended.code == 0
    assert (
        ended.out.count("tensorboard shows nothing any more: [Errno 28] No space left on device. The run goes on") == 1
    )
    assert outcome(program.folder / "run") == outcome(whole)


def test_06_a_full_disk_under_the_curves_and_the_kept_programs_leaves_a_run_that_goes_on(program, whole):
    kept = {"JAX_COMPILATION_CACHE_DIR": str(program.folder / "kept"), "PYTHONWARNINGS": "default"}
    ended = program.train(*SIXTEEN, before=limited(30_000), **kept)
    assert ended.code == 6
    assert ended.err.endswith(
        "error: `run/curves.png` cannot be written: File too large. Raise the limit on the size of a "
        "file (`ulimit -f`).\n"
    )
    assert "Error writing persistent compilation cache entry" in ended.err
    assert program.resume().code == 0
    assert outcome(program.folder / "run") == outcome(whole)
    assert summary(program.folder / "run")["steps"] == 16


def test_06_a_full_disk_under_an_export_leaves_no_file(program, copy):
    ended = program("export", "run", before=limited(1000))
    assert ended.code == 6
    assert "error: `run.safetensors` cannot be written: File too large." in ended.err
    assert {path.name for path in program.folder.iterdir()} == {"run"}


def test_07_a_folder_that_vanishes_ends_with_6_and_is_named(program):
    program.plant(LOOP, "import shutil\n" + AT_STEP.format(step=5, what="shutil.rmtree('run')"))
    ended = program.train(*SIXTEEN)
    assert ended.code == 6
    assert "error: `run` was removed, renamed or replaced while a run was writing to it" in ended.err
    assert not (program.folder / "run").exists()


@pytest.mark.parametrize("where", ["/proc/run", "file/run"])
def test_07_a_folder_that_cannot_be_written_ends_with_6_before_anything_is_trained(program, where):
    (program.folder / "file").touch()
    ended = program.train(out=where)
    assert (ended.code, ended.out) == (6, "")
    assert f"error: `{where}" in ended.err


@pytest.mark.long
def test_10_a_second_process_is_told_who_writes_and_a_killed_one_holds_nothing(program, whole):
    program.plant(LOOP, "import time\n" + AT_STEP.format(step=5, what="print('HERE', flush=True); time.sleep(60)"))
    first = program.start("train", *TINY, *SIXTEEN, "--out", "run")
    until(first, "HERE")
    program.plant(LOOP, "")
    second = program.resume()
    assert second.code == 7
    assert f"`run` is being written by process {first.pid} on " in second.err
    first.kill()
    first.wait()
    assert program.resume().code == 0
    assert outcome(program.folder / "run") == outcome(whole)


@pytest.mark.long
def test_13_a_resumed_run_refuses_what_would_make_it_another_field_by_field(program, copy):
    changes = [
        *("optimizer.learning_rate=0.5", "model.target=tests.networks:Small", 'schedule={ name = "full" }'),
        *("train.seed=3", "train.batch_size=16"),
    ]
    ended = program.resume(*changes)
    assert ended.code == 2
    named = ("optimizer.learning_rate: it was", "model.target: it was", "schedule.name: it was", "train.seed: it was 0")
    assert [name in ended.err for name in (*named, "train.batch_size: it was 8 and cannot become 16")] == [True] * 5
    ended = program.resume("train.checkpoint_every=5", "train.trackers=[]", "train.epochs=3")
    assert ended.code == 0
    assert summary(copy)["steps"] == 24


@pytest.mark.long
def test_14_on_another_machine_it_goes_on_with_a_warning_and_the_first_one_is_noted(program, copy):
    program.plant("approxtrain.run.environment", "def _processor():\n    return 'another one'\n")
    ended = program.resume("train.epochs=3")
    assert ended.code == 0
    assert "warning: The run was begun elsewhere (processor differ): it goes on, but not bit for bit." in ended.out
    assert summary(copy)["environment"]["processor"] == "another one"


@pytest.mark.long
def test_20_the_last_checkpoint_is_that_of_the_highest_step_whatever_the_clock_says(program, whole):
    back = "import time\nnow, left = time.time, [0]\ndef back():\n    left[0] -= 3600\n    return now() + left[0]\n"
    program.plant("approxtrain.errors", back + "time.time = back\n")
    assert program.train("train.checkpoint_every=3", "train.validate_every=1").code == 0
    for number, folder in enumerate(sorted((program.folder / "run/checkpoints").iterdir())):
        os.utime(folder, (10**9 - number, 10**9 - number))
    ended = program.resume("train.epochs=2")
    assert ended.code == 0
    assert "going on from 8" in ended.out
    assert outcome(program.folder / "run") == outcome(whole)
    rows = (program.folder / "run/timing.jsonl").read_text().splitlines()
    assert all(json.loads(row)["images_per_second"] > 0 < json.loads(row)["seconds"] for row in rows)
