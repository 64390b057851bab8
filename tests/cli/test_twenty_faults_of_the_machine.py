"""Faults 8, 9, 11, 12 and 15 to 19 of twenty, of signals, numbers, devices and what is given, against the installed
program.

Each test bears its number. What is expected is ours: before the first step a signal loses nothing, and says so
(8), there is no `--device` (18), and memory that runs out ends with code 9.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.installed import AT_STEP, LOOP, TINY, Program, outcome, signalled, until
from tests.sampling import chosen

pytestmark = pytest.mark.gate

TRAIN = ("train", *TINY, "train.epochs=1", "train.checkpoint_every=3", "--out", "run")
WORK = "import hashlib\ndef work():\n    print('HERE', flush=True)\n    hashlib.pbkdf2_hmac('sha256', b'', b'', {})\n"
"""Seconds in C, in which Python runs no handler."""
WAITING = WORK.format(4_000_000)
PHASES = {
    "loading": (
        "approxtrain.data.shapes",
        "before = draw\ndef draw(*a, **k):\n    work()\n    return before(*a, **k)\n",
    ),
    "compiling": (
        "approxtrain.training.dispatch",
        "before = Dispatch._compile\ndef now(*a):\n    work()\n    before(*a)\nDispatch._compile = now\n",
    ),
    "a step": (LOOP, AT_STEP.format(step=4, what="work()")),
    "validating": (
        "approxtrain.training.evaluate",
        "before = Evaluator.__call__\ndef now(*a):\n    work()\n    return before(*a)\nEvaluator.__call__ = now\n",
    ),
    "saving": (
        "approxtrain.run.checkpoint",
        "before = _write\ndef _write(folder, step, *rest):\n    step == 3 and work()\n"
        "    before(folder, step, *rest)\n",
    ),
}
SIGNALS = {"a step": signal.SIGHUP, "saving": signal.SIGINT}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    program = Program(tmp_path_factory.mktemp("whole"))
    ended = program(*TRAIN)
    assert ended.code == 0, ended.err
    return program.folder / "run"


@pytest.mark.parametrize("phase", chosen(PHASES, ["loading", "a step"]))
def test_08_a_signal_is_answered_at_once_and_the_run_goes_on_bit_for_bit(program, whole, phase):
    module, code = PHASES[phase]
    number = SIGNALS.get(phase, signal.SIGTERM)
    program.plant(module, WAITING + code)
    process = program.start(*TRAIN)
    until(process, "HERE")
    ended, seconds = signalled(process, number)
    assert ended.code == 128 + number
    assert "Traceback" not in ended.err
    assert seconds < 1
    program.plant(module, "")
    if phase == "loading":
        assert "Stopped by a signal. Nothing is lost" in ended.err
        assert program(*TRAIN).code == 0
    else:
        assert "which is saved. Go on with: approxtrain train --resume run" in ended.err
        assert program("train", "--resume", "run").code == 0
    assert outcome(program.folder / "run") == outcome(whole)


@pytest.mark.long
def test_09_a_second_ctrl_c_leaves_at_once_and_no_half_checkpoint(program, whole):
    module, code = PHASES["saving"]
    program.plant(module, WORK.format(200_000_000) + code)
    process = program.start(*TRAIN)
    until(process, "HERE")
    process.send_signal(signal.SIGINT)
    until(process, "stopping after this step …; once more leaves at once")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    program.plant(module, "")
    assert program("train", "--resume", "run").code == 0
    assert outcome(program.folder / "run") == outcome(whole)


@pytest.mark.long
def test_08_under_nohup_a_terminal_that_closes_ends_nothing(program, whole):
    program.plant(LOOP, WAITING + AT_STEP.format(step=4, what="work()"))
    process = program.start(*TRAIN, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(process, "HERE")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert outcome(program.folder / "run") == outcome(whole)


NET = """
import jax.numpy as jnp
from flax import nnx
from tests.networks import Small
class Net(Small):
    def __init__(self, classes, *, rngs):
        super().__init__(classes, rngs=rngs)
        self.count = nnx.BatchStat(jnp.int32(0))
    def __call__(self, x):
        y = super().__call__(x)
        self.count[...] += 1
        self.norm2.mean[...] = jnp.where(self.count[...] == 5, jnp.nan, self.norm2.mean[...])
        return y
"""
OVERFLOW = (
    'schedule={ rules = [{ method = "approx", params = { scale = 1e300 }, layers = [2], '
    "steps = { start = 4, stop = 5 } }] }"
)
DIVERGE = {
    "the loss": (["optimizer.learning_rate=1e30"], 2, "The loss of step 2 is "),
    "a gradient": (
        ["train.check=finite", OVERFLOW],
        5,
        "came first to that of layer 2 (`second`), under approx(scale=1e+300) in step 5",
    ),
    "statistics": (
        ["train.check=finite", "model.target=net:Net"],
        5,
        "The statistics of `norm2` are not finite in step 5, though its loss is: they are of what came behind "
        "`norm2` of layer 2 (`second`), under ",
    ),
}


@pytest.mark.parametrize(
    "what", [pytest.param(name, marks=[pytest.mark.long] * (name != "a gradient")) for name in DIVERGE]
)
def test_11_and_12_no_number_ends_with_4_is_blamed_and_never_saved(program, what):
    more, step, told = DIVERGE[what]
    (program.folder / "net.py").write_text(NET)
    ended = program("train", *TINY, "train.checkpoint_every=1", *more, "train.epochs=1", "--out", "run")
    assert ended.code == 4
    assert told in ended.err
    assert json.loads((program.folder / "run/diverged.json").read_text())["step"] == step
    saved = sorted((program.folder / "run/checkpoints").iterdir())
    assert saved[-1].name in ended.err or "the last" in ended.err
    for folder in saved:
        with np.load(folder / "arrays.npz") as arrays:
            assert all(np.isfinite(arrays[name]).all() for name in arrays)


BAD = {
    "not TOML": ("[train\nepochs = 1", "is not valid TOML"),
    "wrong": (
        '[model]\nname = "cnn2"\n[data]\nname = "shapes"\n[train]\nepochs = "1"\nbatch = 8\nseed = -1\n',
        "error: 3 problems in the configuration",
    ),
    "twice": ("[train]\nepochs = 1\nepochs = 2\n", "is not valid TOML"),
    "a layer that is none": (
        '[model]\nname = "cnn2"\n[data]\nname = "shapes"\n[train]\nepochs = 1\n'
        '[schedule]\nrules = [{ method = "zero", layers = [9] }]\n',
        "9",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_15_a_mistake_in_a_configuration_ends_with_2_and_all_of_them_at_once(program, kind):
    text, told = BAD[kind]
    (program.folder / "mine.toml").write_text(text)
    ended = program("train", "mine.toml", "--out", "run")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert not (program.folder / "run").exists()


@pytest.mark.parametrize("content", [None, b"<!DOCTYPE html><html>404</html>", b"\x1f\x8b\x08" + bytes(50)], ids=str)
def test_16_images_that_are_none_end_with_3_and_what_to_do(program, content):
    if content is not None:
        (program.folder / "cifar-10-binary.tar.gz").write_bytes(content)
    ended = program("train", "cnn2-approx", f"data.dir={program.folder}", "--out", "run")
    assert (ended.code, ended.out) == (3, "")
    assert "fetch" in ended.err
    assert not (program.folder / "run").exists()


def test_17_without_a_network_fetching_ends_in_bounded_time_and_training_never_asks_for_one(program, whole):
    nowhere = dict.fromkeys(("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    ended = program("data", "fetch", "--dir", "images", **nowhere)
    assert ended.code == 3, ended.err
    program.plant("socket", "def no(*a):\n    import os\n    os._exit(99)\nsocket.connect = socket.connect_ex = no\n")
    assert program(*TRAIN).code == 0
    assert outcome(program.folder / "run") == outcome(whole)


def test_18_a_device_that_is_not_there_ends_with_2(program):
    ended = program(*TRAIN, JAX_PLATFORMS="cuda")
    assert ended.code == 2
    assert ended.err.startswith("error: jax cannot start a device of JAX_PLATFORMS=cuda: ")
    assert program(*TRAIN, JAX_PLATFORMS="cpu").code == 0  # into the same folder


@pytest.mark.parametrize(
    "error",
    chosen(
        ["MemoryError()", "jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.')"],
        ["jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.')"],
    ),
)
def test_18_memory_that_runs_out_ends_in_a_sentence_and_the_run_goes_on_later(program, whole, error):
    program.plant(LOOP, "def none():\n    raise " + error + "\n" + AT_STEP.format(step=5, what="none()"))
    ended = program(*TRAIN)
    assert ended.code == 9
    assert ended.err.startswith("error: The memory did not suffice: ")
    assert ended.err.count("\n") == 1
    program.plant(LOOP, "")
    assert program("train", "--resume", "run").code == 0
    assert outcome(program.folder / "run") == outcome(whole)


def test_19_a_narrow_terminal_without_colours_and_letters_gets_plain_lines(program, whole):
    ended = program(*TRAIN, COLUMNS="40", NO_COLOR="1", LANG="C", LC_ALL="C", PYTHONUTF8="0", TERM="dumb")
    assert (ended.code, ended.err) == (0, "")
    assert not [letter for letter in ended.out if ord(letter) < 32 and letter != "\n"]
    assert len(ended.out) < 2000
    assert outcome(program.folder / "run") == outcome(whole)
