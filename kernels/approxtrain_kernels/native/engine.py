"""From LLVM's intermediate code to a function that XLA calls: compiled for this processor, registered with jax."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template

import jax
from llvmlite import binding

MAJOR = 0
"""Of XLA's C interface, whose structures `entry.ll` reads."""
FUNCTIONS = 48
"""Bytes of XLA_FFI_Api before its functions."""

_kept: list[binding.ExecutionEngine] = []
"""The code lives as long as the process."""


@cache
def lanes() -> int | None:
    """float32 numbers in a vector register of this processor; None where no code is written for it."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return 16
    if features.get("avx2") and features.get("fma"):
        return 8
    return None


@cache
def interface() -> dict[str, int] | None:
    """What `entry.ll` has to know of XLA's C interface, from jaxlib's header; None where that is not as we know it."""
    header = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    try:
        text = header.read_text("utf-8")
        major, minor = (int(re.findall(rf"#define XLA_FFI_API_{name} (\d+)", text)[0]) for name in ("MAJOR", "MINOR"))
        functions = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", text)
        offsets = {
            name: FUNCTIONS + 8 * functions.index(f"XLA_FFI_{name}")
            for name in ("ThreadPool_Schedule", "Error_Destroy")
        }
    except (OSError, IndexError, ValueError):
        return None
    if major != MAJOR:
        return None
    return {
        "MAJOR": major,
        "MINOR": minor,
        "SCHEDULE": offsets["ThreadPool_Schedule"],
        "DESTROY": offsets["Error_Destroy"],
    }


def register(name: str, code: str, parts: int) -> None:
    """Compile `code`, which has `part` and `combine`, and make it the target `name` of `jax.ffi.ffi_call` on a CPU."""
    known = interface()
    if known is None:
        raise RuntimeError("XLA's interface for foreign functions is not known in this jaxlib")
    text = files("approxtrain_kernels.native").joinpath("entry.ll").read_text("utf-8")
    entry = Template(text).substitute(known, PARTS=parts)
    engine = binding.create_mcjit_compiler(_compiled(code, entry, _machine()), _machine())
    _kept.append(engine)  # it owns the machine that all share
    engine.finalize_object()
    handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("handler"))
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")


def assembly(code: str, processor: str | None = None) -> str:
    """What this processor is given to run, or one that LLVM knows by name: for those who want to read it."""
    machine = _machine(processor)
    return machine.emit_assembly(_compiled(code, "", machine))


def _compiled(code: str, entry: str, machine: binding.TargetMachine) -> binding.ModuleRef:
    module = binding.parse_assembly(code)
    if entry:
        module.link_in(binding.parse_assembly(entry))
    module.verify()
    tuning = binding.PipelineTuningOptions(speed_level=3)
    tuning.slp_vectorization = tuning.loop_unrolling = False  # the tiles are written as they are meant
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


@cache
def _machine(processor: str | None = None) -> binding.TargetMachine:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = "-prefer-256-bit"
    if processor is None:
        processor, features = binding.get_host_cpu_name(), f"{binding.get_host_cpu_features().flatten()},{features}"
    return binding.Target.from_default_triple().create_target_machine(cpu=processor, features=features, opt=3)
