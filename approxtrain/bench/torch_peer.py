"""PyTorch's own convolution and its gradients as contenders, where PyTorch is installed; never a dependency.

Two, because PyTorch has two ways to lay out an image and neither is the faster one everywhere: contiguous NCHW, and
channels-last. As many threads as XLA has. Where SAME pads one side more than the other, PyTorch gets x padded already
and is not charged for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from approxtrain.bench.contenders import OPERANDS, RESULT, Inputs
from approxtrain.bench.plan import Case

FORMATS = {"torch nchw": "contiguous_format", "torch nhwc": "channels_last"}


def installed() -> bool:
    return importlib.util.find_spec("torch") is not None


def peers(case: Case) -> Iterator[TorchPeer]:
    """PyTorch's contenders of a case; none where it is not installed, or where jax computes on something else."""
    if installed() and jax.default_backend() == "cpu":
        yield from (TorchPeer(name, case) for name in FORMATS)


def facts() -> dict[str, Any] | None:
    """Version and threads, for the record; None where PyTorch takes no part."""
    if not installed() or jax.default_backend() != "cpu":
        return None
    torch = _torch()
    return {"version": torch.__version__, "threads": torch.get_num_threads(), "onednn": torch.backends.mkldnn.enabled}


def _torch() -> Any:
    return importlib.import_module("torch")


class TorchPeer:
    """One part of one convolution in one memory format."""

    queues = False
    by_kernel = False

    def __init__(self, name: str, case: Case) -> None:
        torch = self._torch = _torch()
        if hasattr(os, "sched_getaffinity"):
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.name, self.results = name, (RESULT[case.part],)
        self._format = getattr(torch, FORMATS[name])
        self._dtype = getattr(torch, case.precision.dtype)
        self._shape, self._part = case.shape, case.part
        (top, bottom), (left, right) = case.shape.padding
        self._even = top == bottom and left == right
        self._padding = [top, left] if self._even else [0, 0]

    def load(self, inputs: Inputs) -> tuple[Any, ...]:
        """The operands in PyTorch's order of axes; for dgrad, an image besides, of which PyTorch reads the size."""
        tensors = {name: self._tensor(name, inputs[name]) for name in {"x", *OPERANDS[self._part]}}
        if self._part == "dgrad":
            return tensors["dy"], tensors["w"], tensors["x"]
        if self._part == "wgrad":
            weight = self._torch.empty(self._order("w", np.empty(self._shape.w_shape)).shape, dtype=self._dtype)
            return tensors["x"], tensors["dy"], weight.contiguous(memory_format=self._format)
        return tensors["x"], tensors["w"]

    def run(self, operands: tuple[Any, ...]) -> Any:
        torch, strides = self._torch, list(self._shape.strides)
        with torch.no_grad():
            if self._part == "forward":
                return torch.nn.functional.conv2d(*operands, None, strides, self._padding)
            x, w, dy = (operands[i] for i in ((0, 2, 1) if self._part == "wgrad" else (2, 1, 0)))
            wanted = [self._part == "dgrad", self._part == "wgrad", False]
            geometry = (None, strides, self._padding, [1, 1], False, [0, 0], 1)
            gradients = torch.ops.aten.convolution_backward(dy, x, w, *geometry, wanted)
        return gradients[0 if self._part == "dgrad" else 1]

    def wait(self, result: Any) -> Any:
        return result  # on a CPU PyTorch returns when it is done

    def arrays(self, result: Any) -> tuple[np.ndarray, ...]:
        found = result.to(self._torch.float32).numpy()
        if self._part == "wgrad":
            return (found.transpose(2, 3, 1, 0),)
        found = found.transpose(0, 2, 3, 1)
        if self._part == "dgrad" and not self._even:
            (top, _), (left, _) = self._shape.padding
            found = found[:, top : top + self._shape.height, left : left + self._shape.width]
        return (found,)

    def _tensor(self, name: str, array: jax.Array) -> Any:
        numbers = np.asarray(array, np.float32)
        if name == "x" and not self._even:
            numbers = np.pad(numbers, ((0, 0), *self._shape.padding, (0, 0)))
        tensor = self._torch.from_numpy(np.array(self._order(name, numbers), order="C")).to(self._dtype)
        return tensor.contiguous(memory_format=self._format)

    @staticmethod
    def _order(name: str, array: np.ndarray) -> np.ndarray:
        """NHWC → NCHW; HWIO → OIHW."""
        return array.transpose((3, 2, 0, 1) if name == "w" else (0, 3, 1, 2))
