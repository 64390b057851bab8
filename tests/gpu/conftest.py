"""XLA's CUDA compiler for an H200 that is not there, and the JSON of what it made (`make gpu-check`)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from approxtrain import disk
from approxtrain.run.environment import this_environment
from tests.gpu.target import Target

DESCRIPTION = Path(__file__).with_name("h200_target_config.txt")
PACKAGES = ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc")


@pytest.fixture(scope="session")
def target() -> Target:
    """An H200; without the compiler the test is skipped."""
    nvidia = importlib.util.find_spec("nvidia")
    assemblers = [Path(folder) / "cu13/bin/ptxas" for folder in (nvidia and nvidia.submodule_search_locations) or ()]
    ptxas = next(filter(Path.is_file, assemblers), None)
    if ptxas is None or importlib.util.find_spec("jax_cuda13_plugin") is None:
        pytest.skip(f"XLA's CUDA compiler is not there ({', '.join(PACKAGES)}): make gpu-check gets it")
    return Target(DESCRIPTION.read_text(), ptxas)


@pytest.fixture(scope="session")
def record() -> Iterator[dict[str, list[dict[str, Any]]]]:
    """What was compiled, to be added to; written to the file that APPROXTRAIN_GPU_CHECK_JSON names, if it is set."""
    compiled: dict[str, list[dict[str, Any]]] = {"forms": [], "steps": [], "several": []}
    yield compiled
    if file := os.environ.get("APPROXTRAIN_GPU_CHECK_JSON"):
        head = {
            "command": "make gpu-check",
            "measured": "compiled, not run",
            "device": f"NVIDIA H200, described by tests/gpu/{DESCRIPTION.name}",
            "compiler": {name: version(name) for name in PACKAGES},
            "environment": this_environment(),
            "problems": [problem for each in chain(*compiled.values()) for problem in each["problems"]],
        }
        disk.write_json(Path(file), head | compiled)
