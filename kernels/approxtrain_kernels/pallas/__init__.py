"""GPU kernels of the method `approx`, written in Pallas.

    choose     which form is the fastest for a layer on a device: by the model in `model`, with the rates in `devices`
    select     the k largest entries of each plane of dO
    gather     dW by fetching the patches they saw, in one kernel with the selection (`fused`) or after it
    tensor     the same on tensor cores
    wgrad      dW by a plan; platform: where that may run
    triton     the one file that knows the backend

Loaded when first used: `choose` and what it needs import no jax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from approxtrain_kernels.pallas.wgrad import estimate

__all__ = ["estimate"]


def __getattr__(name: str) -> Any:
    if name == "estimate":
        from approxtrain_kernels.pallas.wgrad import estimate

        return estimate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
