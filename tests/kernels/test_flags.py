"""The flag that jaxlib 0.10.x needs on a CPU: set in time, never in the way, and with it sums are right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from approxtrain_kernels import xla_flags
from approxtrain_kernels.xla_flags import FLAG

pytestmark = pytest.mark.both

ROOT = Path(__file__).parents[2]
AFFECTED = version("jaxlib").startswith("0.10.")
SHOW = "; import os; print(os.environ.get('XLA_FLAGS'))"
START_JAX = "import jax; jax.numpy.zeros(1).block_until_ready()"

LAST_ROW = """
import approxtrain_kernels, jax, jax.numpy as jnp
rows = jnp.arange(32_769, dtype=jnp.float32)[:, None] * jnp.array([1.0, 0.0, 0.0])
squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))
print(float(squares(rows)[-1]))
"""
"""jax issue 39103: without the flag, jaxlib 0.10.2 returns 0.2 to 0.8 % less, how much depends on the machine."""


def python(code: str, prefix: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` on a CPU, with no XLA flag but what `variables` holds, after the shell's `prefix`."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    done = subprocess.run(
        ["bash", "-c", f'{prefix}\nexec "$0" -c "$1"', sys.executable, code],
        env={**environment, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("package", ["approxtrain_kernels", "approxtrain"])
def test_importing_a_package_first_appends_the_flag_to_what_is_there(package):
    others = "--xla_cpu_enable_fast_math=false"
    done = python(f"import {package}{SHOW}", XLA_FLAGS=others)
    assert done.stdout.strip() == (f"{others} {FLAG}" if AFFECTED else others)
    assert done.stderr == ""


@pytest.mark.gate
def test_it_is_in_time_while_jax_is_imported_but_has_not_started():
    done = python(f"import jax, approxtrain_kernels{SHOW}")
    assert done.stdout.strip() == (FLAG if AFFECTED else "None")
    assert done.stderr == ""


def test_a_value_that_the_user_chose_is_kept():
    chosen = f"{FLAG}-reduce"
    assert python(f"import approxtrain_kernels{SHOW}", XLA_FLAGS=chosen).stdout.strip() == chosen


@pytest.mark.gate
def test_too_late_it_warns_with_a_line_that_helps():
    late = f"{START_JAX}\nimport approxtrain_kernels{SHOW}"
    done = python(late)
    assert done.stdout.strip() == "None"
    lines = re.findall(r"^ +(export .*)$", done.stderr, re.MULTILINE)
    assert lines == ([f'export XLA_FLAGS="$XLA_FLAGS {FLAG}"'] if AFFECTED else [])
    assert ("RuntimeWarning: jax started before approxtrain was imported" in done.stderr) is AFFECTED
    if AFFECTED:
        assert "<string>:2: RuntimeWarning" in done.stderr  # the user's own import
        heeded = python(late, prefix=lines[0])
        assert (heeded.stdout.strip(), heeded.stderr) == (FLAG, "")


@pytest.mark.parametrize(("backend", "warns"), [("cpu", True), ("gpu", False)])
def test_only_a_cpu_is_warned_about(backend, warns, monkeypatch, recwarn):
    monkeypatch.setattr(xla_flags, "version", lambda package: "0.10.9")
    monkeypatch.setattr(xla_flags, "_backend_is_up", lambda: True)
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(default_backend=lambda: backend))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    xla_flags.ensure()
    assert [warning.category for warning in recwarn] == [RuntimeWarning] * warns
    assert "XLA_FLAGS" not in os.environ


@pytest.mark.parametrize(("jaxlib", "flags"), [("0.10.0", FLAG), ("0.11.2", None), ("0.9.1", None)])
def test_only_jaxlib_0_10_gets_the_flag(jaxlib, flags, monkeypatch):
    monkeypatch.setattr(xla_flags, "version", lambda package: jaxlib)
    monkeypatch.setattr(xla_flags, "_backend_is_up", lambda: False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    xla_flags.ensure()
    assert os.environ.get("XLA_FLAGS") == flags


@pytest.mark.gate
def test_with_a_package_of_ours_imported_first_a_known_sum_is_right():
    assert float(python(LAST_ROW).stdout) == 32_768**2
