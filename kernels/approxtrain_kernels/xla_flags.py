"""One XLA flag that jaxlib 0.10.x needs on a CPU, set before jax starts.

With its YNNPACK fusion on, jaxlib 0.10.x computes some CPU reductions wrongly, without a warning, and
convolutions two to three times slower (jax issue 39103). An empty value of the flag turns the fusion off.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version

FLAG = "--xla_cpu_experimental_ynn_fusion_type="


def ensure() -> None:
    """Append the flag to XLA_FLAGS while no backend is up; later, on an affected CPU, warn with the line to add."""
    if not _affected() or FLAG.rstrip("=") in os.environ.get("XLA_FLAGS", ""):
        return
    if not _backend_is_up():
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()
    elif sys.modules["jax"].default_backend() == "cpu":
        warnings.warn(
            "jax started before approxtrain was imported, so XLA's YNNPACK fusion is on: with jaxlib 0.10.x some CPU "
            "reductions are wrong and convolutions are slow. Import approxtrain before the first jax operation, or "
            f'start Python after this line:\n    export XLA_FLAGS="$XLA_FLAGS {FLAG}"',
            RuntimeWarning,
            stacklevel=3,
        )


def _affected() -> bool:
    return version("jaxlib").startswith("0.10.")


def _backend_is_up() -> bool:
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()
