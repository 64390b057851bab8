"""Compiling for a GPU that is not there: XLA's CUDA compiler with a description of the device in its place.

Needs the packages that `tools/gpu_check.sh` installs on `sys.path`, no driver and no cuDNN, and `JAX_PLATFORMS=cpu`, so
that nobody looks for the device. The program cannot be run; cuDNN's algorithms are not chosen.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from approxtrain.training.parallel import AXIS
from tests.gpu.program import Program, Resources, entries, resources

ARCHITECTURE = "sm_90a"


class Target:
    """One GPU or several of one host, from XLA's text description of it, and the assembler for it."""

    def __init__(self, description: str, ptxas: Path, devices: int = 1) -> None:
        self.description, self.ptxas = description, ptxas
        topology = topologies.get_topology_desc(platform="cuda", target_config=description, topology=f"1x1x{devices}")
        self.mesh = topologies.make_mesh(topology, (devices,), (AXIS,))
        self.sharding = NamedSharding(self.mesh, PartitionSpec())

    def compile(self, function: Callable[..., Any], *arguments: Any, donate: tuple[int, ...] = ()) -> Program:
        """`function` compiled for arguments like these (arrays, or anything with shape and dtype, in any tree)."""
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding), arguments
        )
        with tempfile.TemporaryDirectory() as folder, jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
            lowered = jax.jit(function, donate_argnums=donate).lower(*abstract)
            options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True, "xla_dump_emitter_re": "ptx"}
            hlo = lowered.compile(compiler_options=options).as_text() or ""
            texts = [file.read_text("utf-8") for file in Path(folder).rglob("*.ptx")]
            thunks = "".join(file.read_text("utf-8") for file in Path(folder).rglob("*.thunk_sequence.txt"))
            return Program(hlo, thunks, {kernel: text for text in texts for kernel in entries(text)})

    def assemble(self, ptx: str) -> dict[str, Resources]:
        """Kernel → what it takes once it is machine code."""
        command = [str(self.ptxas), f"-arch={ARCHITECTURE}", "-v", "-o", "/dev/null", "-"]
        done = subprocess.run(command, input=ptx, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"ptxas failed: {done.stderr.strip()}")
        return resources(done.stderr)
