"""Code of our own on a CPU: what LLVM makes of it, and where it is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.native import convolve, engine, generate
from approxtrain_kernels.native.cut import Cut
from approxtrain_kernels.native.sweep import Sweep

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")


@pytest.mark.parametrize(
    ("processor", "lanes"), [("haswell", 8), ("znver3", 8), ("skylake-avx512", 16), ("znver5", 16)]
)
@pytest.mark.parametrize("part", ["forward", "dgrad", "wgrad"])
@pytest.mark.parametrize("channels", [16, 32, 64, 128])
def test_the_loop_of_a_tile_is_multiply_adds_and_nothing_is_kept_on_the_stack(part, channels, processor, lanes):
    """The totals stay in their registers: a spill in the innermost loop would double its time."""
    shape = conv_shape((128, 16, 16, channels), channels, (3, 3))
    if part == "wgrad":
        cut = Cut(shape, 2, lanes)
        (rows, columns), code = cut.tile, generate.module(cut)
        name = f"tile{rows}x{columns}"
    else:
        plan = Sweep(shape, 2, lanes, part == "dgrad")
        code, columns, box = convolve.module(plan), plan.columns, plan.box(plan.columns, 16, 16)
        rows, name = box.pixels, f"tile{box.images}x{box.rows}x{box.columns}x{columns}"
    tile = engine.assembly(str(code), processor).partition(f"\n{name}:")[2].partition(".Lfunc_end")[0]
    totals = rows * columns // lanes
    assert totals >= 8  # two a cycle, each four cycles
    assert tile.count("vfmadd") == totals
    assert {"ymm", "zmm"}.intersection(re.findall("[yz]mm", tile)) == {"zmm" if lanes == 16 else "ymm"}
    assert not re.findall(r"\(%rsp\), %[yz]mm|%[yz]mm\d+, .*\(%rsp\)", tile)


def test_it_is_used_only_where_the_interface_is_known(monkeypatch, tmp_path):
    folder = tmp_path / "xla/ffi/api"
    folder.mkdir(parents=True)
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    known = engine.interface()

    def read(text):
        (folder / "c_api.h").write_text(text)
        return engine.interface.__wrapped__()

    assert read(header) == known
    assert read(header.replace("XLA_FFI_API_MAJOR 0", "XLA_FFI_API_MAJOR 1")) is None
    assert read(header.replace("STRUCT_FIELD(XLA_FFI_ThreadPool_Schedule)", "STRUCT_FIELD(XLA_FFI_Other)")) is None
    assert read("") is None
    (folder / "c_api.h").unlink()
    assert engine.interface.__wrapped__() is None


def test_other_types_and_other_systems_are_left_to_xla(monkeypatch):
    shape = conv_shape((2, 6, 6, 8), 16, (3, 3))
    assert native.computes(shape, jnp.float32)
    assert not native.computes(shape, jnp.bfloat16)
    assert not native.computes(replace(shape, batch=0), jnp.float32)
    monkeypatch.setattr(native.platform, "system", lambda: "Darwin")
    assert not native.available.__wrapped__()


def test_an_environment_variable_turns_it_off():
    code = "from approxtrain_kernels import native; print(native.available())"
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    environment = {**os.environ, "PYTHONPATH": paths, "APPROXTRAIN_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False"
