"""What is freed is used again without a page fault."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAULTS = """
import ctypes, resource, sys
from approxtrain import host_memory
asked = host_memory.keep_freed() if "ask" in sys.argv else None
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


def test_settings_of_the_users_own_are_left_alone():
    assert faults("ask", MALLOC_TOP_PAD_="0")[0] == "False"
