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

from approxtrain.bench.kernel_cases import Case
from approxtrain.bench.kernel_contenders import KernelContender

FORMATS = {"torch nchw": "contiguous_format", "torch nhwc": "channels_last"}


def takes_part() -> bool:
    """Whether PyTorch is installed, and jax computes on the CPU as it does."""
    return importlib.util.find_spec("torch") is not None and jax.default_backend() == "cpu"


def module() -> Any:
    """PyTorch, with a thread for each core that this process may use."""
    torch = importlib.import_module("torch")
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch


def facts() -> dict[str, Any] | None:
    """Version and threads, for the record; None where PyTorch takes no part."""
    if not takes_part():
        return None
    torch = module()
    return {"version": torch.__version__, "threads": torch.get_num_threads(), "onednn": torch.backends.mkldnn.enabled}


def peers(case: Case) -> Iterator[KernelContender]:
    """PyTorch's contenders of a case, if it takes part."""
    return (_peer(name, case) for name in FORMATS if takes_part())


def _peer(name: str, case: Case) -> KernelContender:
    part, layout = case.part, TorchLayout(case, FORMATS[name])
    names = ("x", "w") if part == "forward" else ("dy", "x", "w")  # backward reads the size of the one that it makes
    return KernelContender(
        name,
        (part,),
        load=lambda inputs: tuple(layout.tensor(each, inputs[each]) for each in names),
        run=layout.forward if part == "forward" else layout.backward,
        wait=lambda result: result,  # on a CPU PyTorch returns when it is done
        arrays=lambda result: (layout.array(result),),
    )


class TorchLayout:
    """One part of one convolution in one of PyTorch's memory formats."""

    def __init__(self, case: Case, memory_format: str) -> None:
        self.torch, self.part, self.shape = module(), case.part, case.shape
        self.format = getattr(self.torch, memory_format)
        self.dtype = getattr(self.torch, case.precision.dtype)
        (top, bottom), (left, right) = case.shape.padding
        self.even = top == bottom and left == right
        self.padding = [top, left] if self.even else [0, 0]

    def forward(self, x: Any, w: Any) -> Any:
        with self.torch.no_grad():
            return self.torch.nn.functional.conv2d(x, w, None, list(self.shape.strides), self.padding)

    def backward(self, dy: Any, x: Any, w: Any) -> Any:
        """dx or dw, whichever the part is."""
        wanted = [self.part == "dgrad", self.part == "wgrad", False]
        geometry = (None, list(self.shape.strides), self.padding, [1, 1], False, [0, 0], 1)
        with self.torch.no_grad():
            return self.torch.ops.aten.convolution_backward(dy, x, w, *geometry, wanted)[wanted.index(True)]

    def tensor(self, name: str, array: jax.Array) -> Any:
        """An array with PyTorch's order of axes: NHWC → NCHW, HWIO → OIHW."""
        numbers = np.asarray(array, np.float32)
        if name == "x" and not self.even:
            numbers = np.pad(numbers, ((0, 0), *self.shape.padding, (0, 0)))
        numbers = numbers.transpose((3, 2, 0, 1) if name == "w" else (0, 3, 1, 2))
        tensor = self.torch.from_numpy(np.array(numbers, order="C")).to(self.dtype)
        return tensor.contiguous(memory_format=self.format)

    def array(self, result: Any) -> np.ndarray:
        """The result in float32 with our order of axes, without padding."""
        array = result.to(self.torch.float32).numpy()
        if self.part == "wgrad":
            return array.transpose(2, 3, 1, 0)
        array = array.transpose(0, 2, 3, 1)
        if self.part == "forward" or self.even:
            return array
        (top, _), (left, _) = self.shape.padding
        return array[:, top : top + self.shape.height, left : left + self.shape.width]
