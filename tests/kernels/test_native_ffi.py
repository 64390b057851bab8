"""Code of our own on a CPU: what LLVM makes of it, and where it is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import jax.numpy as jnp
import pytest

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.native import ffi
from approxtrain_kernels.native.conv import Conv
from approxtrain_kernels.native.wgrad import Wgrad
from tests.sampling import latin

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")


LANES = {"haswell": 8, "znver3": 8, "skylake-avx512": 16, "znver5": 16}


@pytest.mark.parametrize(
    ("kind", "channels", "processor"), latin(["forward", "dgrad", "wgrad"], [16, 32, 64, 128], list(LANES))
)
def test_the_loop_of_a_tile_is_multiply_adds_and_nothing_is_kept_on_the_stack(kind, channels, processor):
    """The totals stay in their registers: a spill in the innermost loop would double its time."""
    lanes = LANES[processor]
    shape = conv_shape((128, 16, 16, channels), channels, (3, 3))
    if kind == "wgrad":
        kernel = Wgrad(shape, 2, lanes)
        rows, columns = kernel.tile
        name = f"tile{rows}x{columns}"
    else:
        kernel = Conv(shape, 2, lanes, kind == "dgrad")
        columns = kernel.columns
        box = kernel.box(columns, 16, 16)
        rows, name = prod(box), f"tile{box.images}x{box.rows}x{box.columns}x{columns}"
    tile = ffi.assembly(kernel, processor).partition(f"\n{name}:")[2].partition(".Lfunc_end")[0]
    totals = rows * columns // lanes
    assert totals >= 8  # two a cycle, each four cycles
    assert tile.count("vfmadd") == totals
    assert {"ymm", "zmm"}.intersection(re.findall("[yz]mm", tile)) == {"zmm" if lanes == 16 else "ymm"}
    assert not re.findall(r"\(%rsp\), %[yz]mm|%[yz]mm\d+, .*\(%rsp\)", tile)


def test_other_types_and_other_systems_are_left_to_xla(monkeypatch):
    shape = conv_shape((2, 6, 6, 8), 16, (3, 3))
    assert native.computes(shape, jnp.float32)
    assert not native.computes(shape, jnp.bfloat16)
    assert not native.computes(replace(shape, batch=0), jnp.float32)
    monkeypatch.setattr(native.platform, "system", lambda: "Darwin")
    assert native.refusal.__wrapped__() == "it is written for Linux, and this is Darwin"
    monkeypatch.setattr(native, "refusal", native.refusal.__wrapped__)
    assert not native.available()
    assert not native.computes(shape, jnp.float32)
    assert native.described() is None


@pytest.mark.gate
def test_an_environment_variable_turns_it_off():
    code = "from approxtrain_kernels import native; print(native.available(), native.refusal())"
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    environment = {**os.environ, "PYTHONPATH": paths, "APPROXTRAIN_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False APPROXTRAIN_NATIVE=0 turns it off"
