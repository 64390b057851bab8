"""Fresh memory is not zero by chance: what a kernel reads before it writes it shows, in all but the smallest blocks."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that are marked `long` run only where `-m` asks for them."""
    if "long" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
