"""What the model of `choose` knows about devices: the makers' peak rates. Imports no jax."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Device:
    """Peak rates in bytes, multiply-adds and operations a second."""

    name: str
    sms: int
    hbm: float
    l2: float
    l1: float
    """All multiprocessors together, 128 bytes a clock each."""
    fma: float
    """float32 multiply-adds outside of the tensor cores."""
    tf32: float
    half: float
    """bfloat16 and float16 on tensor cores, dense."""
    launch: float = 2.5e-6
    """Seconds from the end of one short kernel to the start of the next: an assumption."""


H200 = Device(name="NVIDIA H200", sms=132, hbm=4.8e12, l2=5.5e12, l1=29.6e12, fma=33.5e12, tf32=494e12, half=989e12)
H100 = Device(name="NVIDIA H100", sms=132, hbm=3.35e12, l2=5.5e12, l1=29.6e12, fma=33.5e12, tf32=494e12, half=989e12)
A100 = Device(name="NVIDIA A100", sms=108, hbm=1.56e12, l2=4.0e12, l1=19.5e12, fma=9.75e12, tf32=156e12, half=312e12)
DEFAULT = H200
"""What is meant where a program is lowered for a GPU on a machine without one."""


def device_of(kind: str) -> Device:
    """The entry for what `jax.Device.device_kind` says; an NVIDIA GPU that is not listed counts as an A100."""
    return next((known for known in (H200, H100) if known.name in kind), A100)
