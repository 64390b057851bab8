"""Fresh memory is not zero by chance: what a kernel reads before it writes it shows, in all but the smallest blocks."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator

import jax
import pytest

_PERTURB = -6  # the number of <malloc.h>
_FILL = 0x81  # fresh bytes are its complement, 0x7E: as float32 they read 8e37


@pytest.fixture(autouse=True, scope="module")
def _memory_holds_large_numbers() -> Iterator[None]:
    if platform.libc_ver()[0] != "glibc" or "MALLOC_PERTURB_" in os.environ:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_PERTURB, _FILL)
    yield
    libc.mallopt(_PERTURB, 0)


@pytest.fixture(autouse=True)
def _needs_a_gpu(request: pytest.FixtureRequest) -> None:
    """Tests marked `gpu` are skipped where jax computes on something else."""
    if request.node.get_closest_marker("gpu") and jax.default_backend() != "gpu":
        pytest.skip("no NVIDIA GPU")
