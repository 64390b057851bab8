"""From LLVM's intermediate code to a function that XLA calls: compiled for this processor, registered with jax."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from string import Template
from threading import Lock

import jax
from llvmlite import binding

from approxtrain_kernels.native.header import interface
from approxtrain_kernels.native.kernel import Kernel

_engines: list[binding.ExecutionEngine] = []
"""The code lives as long as the process."""
_registered: set[str] = set()
_lock = Lock()
_forked = False
"""Whether this process is a fork of one in which such code was used."""


@cache
def lanes() -> int | None:
    """float32 numbers in a vector register of this processor; None where no code is written for it."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return 16
    if features.get("avx2") and features.get("fma"):
        return 8
    return None


def target(kernel: Kernel) -> str:
    """The target of `jax.ffi.ffi_call` that is this kernel: compiled by the first who asks, once in a process.

    RuntimeError in a fork of a process that used such code: to compile a program, XLA would wait for ever.
    """
    if _forked:
        raise RuntimeError(
            "This process was forked from one that runs programs of XLA, whose threads a fork does not have: it can "
            "compile no new program. Start processes by 'spawn' or 'forkserver' (multiprocessing.set_start_method)."
        )
    with _lock:
        if kernel.call_target not in _registered:
            register(kernel.call_target, kernel)
            _registered.add(kernel.call_target)
    return kernel.call_target


def _in_a_fork() -> None:
    global _lock, _forked
    _lock, _forked = Lock(), bool(_engines)  # another thread of the parent may have held the lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)


def register(name: str, kernel: Kernel) -> None:
    """Compile the kernel and make it the target `name` of `jax.ffi.ffi_call` on a CPU."""
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler(kernel)), platform="cpu")


def handler(kernel: Kernel) -> Callable[[int], int | None]:
    """The kernel, compiled: a function from the address of XLA's call frame to that of an error, or None."""
    text = files("approxtrain_kernels.native").joinpath("entry.ll").read_text("utf-8")
    entry = Template(text).substitute(interface(), SLICES=kernel.slices)
    engine = binding.create_mcjit_compiler(_optimised(str(kernel.module()), entry, _machine()), _machine())
    _engines.append(engine)  # it owns the machine that all share
    engine.finalize_object()
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("handler"))


def assembly(kernel: Kernel, processor: str | None = None) -> str:
    """What this processor is given to run, or one that LLVM knows by name: for those who want to read it."""
    machine = _machine(processor)
    return machine.emit_assembly(_optimised(str(kernel.module()), "", machine))


def _optimised(code: str, entry: str, machine: binding.TargetMachine) -> binding.ModuleRef:
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
