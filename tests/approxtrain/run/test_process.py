"""What is freed is used again without a page fault, and the second run of a network finds its programs compiled."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from approxtrain.run import process
from approxtrain_kernels import conv, native

NATIVE = True

ROOT = Path(__file__).parents[3]
FAULTS = """
import ctypes, resource, sys
from approxtrain.run import process
assert 'jax' not in sys.modules
asked = process.keep_freed_memory() if "ask" in sys.argv else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def touch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touch()
print(asked, touch())
"""


def faults(*arguments: str, **variables: str) -> tuple[str, int]:
    """What `keep_freed` said, and the page faults of the second use of 64 MB."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "kernels"))), **variables}
    command = [sys.executable, "-c", FAULTS, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    asked, count = done.stdout.split()
    return asked, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives large blocks back at once")
def test_a_block_of_64_mb_costs_page_faults_once():
    assert faults()[1] > 1000
    asked, count = faults("ask")
    assert asked == "True"
    assert count < 100


def test_memory_settings_of_the_users_own_are_left_alone():
    assert faults("ask", MALLOC_TOP_PAD_="0")[0] == "False"


RUN = [
    sys.executable,
    "-m",
    "approxtrain_cli",
    "train",
    "quickstart",
    "train.epochs=1",
    "data.limit=64",
    "train.batch_size=32",
    "model.name=cnn2",
    "--out",
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache in a folder of its own, made under a umask that forbids nothing, which keeps every program."""
    from jax.experimental.compilation_cache import compilation_cache

    names = [f"jax_persistent_cache_min_{what}" for what in ("compile_time_secs", "entry_size_bytes")]
    names.append("jax_compilation_cache_dir")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(process, "SHORTEST", 0.0)
    compilation_cache.reset_cache()
    umask = os.umask(0)
    try:
        folder = process.keep_programs(tmp_path / "kept")
    finally:
        os.umask(umask)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def kept(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("jit_f-*-cache")}


def test_a_program_is_kept(cache):
    def f(x):
        return jnp.sin(x) @ x

    assert jax.jit(f)(jnp.ones((8, 8))).shape == (8, 8)
    assert len(kept(cache)) == 1


@pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")
def test_a_program_with_code_of_our_own_is_kept_without_a_word(cache):
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 4))

    def f(x, w):
        return conv(x, w)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = jax.jit(f).lower(x, w).compile()
    assert "approxtrain_forward_" in program.as_text()
    assert len(kept(cache)) == 1


def test_an_entry_that_cannot_be_read_is_compiled_again(cache):
    def f(x):
        return jnp.cos(x) @ x

    expected = jax.jit(f)(jnp.ones((8, 8)))
    (name,) = kept(cache)
    jax.clear_caches()
    (cache / name).write_bytes(b"no program")
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
        assert (jax.jit(f)(jnp.ones((8, 8))) == expected).all()


def refusal(folder: Path) -> str:
    """What is said of a folder in which no programs are kept."""
    said: list[str] = []
    before = jax.config.jax_compilation_cache_dir
    assert process.keep_programs(folder, said.append) is None
    assert jax.config.jax_compilation_cache_dir == before
    (text,) = said
    assert text.startswith("compiled programs are not kept. ")
    assert "JAX_COMPILATION_CACHE_DIR=FOLDER" in text
    return text


@pytest.fixture
def own_settings(monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        monkeypatch.delenv(name, raising=False)


def test_kept_programs_are_the_users_alone_whatever_the_umask(cache):
    assert [folder.stat().st_mode & 0o777 for folder in (cache.parent, cache)] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("inside", [False, True], ids=["the folder", "a part of it"])
def test_programs_that_others_could_have_written_are_not_run(tmp_path, own_settings, mode: int, inside: bool):
    loose = tmp_path / process._processor_kind() if inside else tmp_path
    loose.mkdir(exist_ok=True)
    loose.chmod(mode)
    assert f"Others can write to `{loose}`, and their programs would be run: remove it." in refusal(tmp_path)


def test_programs_of_another_user_are_not_run(tmp_path, own_settings, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert f"`{tmp_path}` belongs to another user, whose programs would be run: remove it." in refusal(tmp_path)


def test_programs_are_not_kept_where_no_folder_can_be_made(tmp_path, own_settings):
    (tmp_path / "file").touch()
    assert "file/programs` cannot be written: Not a directory" in refusal(tmp_path / "file" / "programs")


def test_programs_are_not_kept_for_a_user_without_a_home(own_settings, monkeypatch):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    said: list[str] = []
    assert process.keep_programs(warn=said.append) is None
    assert "You have no home folder: set HOME or XDG_CACHE_HOME." in said[0]


def test_cache_settings_of_the_users_own_are_left_alone(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "0")
            assert process.keep_programs(tmp_path) is None
    assert jax.config.jax_compilation_cache_dir == before


@pytest.mark.gate
def test_the_second_run_compiles_no_step_and_learns_the_same(tmp_path):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    }
    paths = os.pathsep.join(str(ROOT / folder) for folder in (".", "cli", "kernels"))
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": paths}
    losses, programs_on_disk = [], []
    for name in ("first", "second"):
        done = subprocess.run([*RUN, tmp_path / name], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "cache" not in done.stderr + done.stdout
        rows = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        losses.append([row["loss"] for row in rows])
        found = (tmp_path / "cache/approxtrain/programs").rglob("*-cache")
        programs_on_disk.append({file.name for file in found})
    assert losses[0] == losses[1]
    # On a busy machine a program that compiles in about SHORTEST seconds may be kept in one run and not in the other.
    steps = [{name for name in names if name.startswith("jit_step")} for names in programs_on_disk]
    assert steps[0]
    assert steps[0] == steps[1]
