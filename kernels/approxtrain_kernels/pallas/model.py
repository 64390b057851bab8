"""The time of each form of `approx` on a GPU, from the work it has to do. Imports no jax.

    seconds of a kernel = launch + max(bytes through HBM, L2 and L1, multiply-adds, steps · wait)

The rates are the makers' peaks. Which share of them a kernel reaches and what a step of a loop waits were
fitted to an H100: 8 shapes by 3 precisions, each form, and 112 cuttings of `gather` (results/gpu/h100/forms.json and
cuts.json; docs/gpu.md has the fit). What a launch costs, and everything on another device, is an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

from approxtrain_kernels.geometry import ConvShape

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
MOST_ROUNDS = 16
"""Up to this k the entries are found one after the other by our kernel, beyond it by XLA's sort."""

HBM_SHARE = 0.85
FUSED_HBM_SHARE = 0.45  # a look at dO is over before the next one begins
L2_SHARE = 0.85
L1_SHARE = 0.5  # loads by index arrays: a pixel's channels are one piece, pixels are apart
CUDNN_SHARE = 0.6  # of tensor cores in half precision, by a wgrad that fills its tiles
CUDNN_TF32_SHARE = 0.29
CUDNN_FMA_SHARE = 0.75
CUDNN_KERNELS = 3  # wgrad, the sum of its splits, the change of dw's layout
CUDNN_START = 6e-6  # a wgrad of next to nothing takes 20 µs and more
CUDNN_TILE = 64  # channels and taps·channels are padded to this in the smallest tile
GATHER_FMA_SHARE = 0.4  # addresses, masks and conversions are issued between the multiply-adds
TENSOR_SHARE = 0.3  # 16 rows of output channels: half of a tensor core's smallest efficient tile
STEP_SECONDS = {  # bytes of a number, numbers a thread holds of a tap → one entry of one image, all taps
    2: {1: 1.1e-6, 2: 1.3e-6, 4: 0.85e-6, 8: 0.7e-6},
    4: {1: 1.1e-6, 2: 1.75e-6, 4: 1.4e-6, 8: 1.2e-6},
}
TENSOR_STEP_SECONDS = 2.1e-6
TENSOR_START = 3e-6
LOOK_SECONDS = 0.8e-6  # for the largest dO of an image, and for each number of a tile that a thread holds
LOOK_NUMBER_SECONDS = 0.25e-6
SORT_PASSES = 40  # XLA's top-k beyond MOST_ROUNDS, in passes over dO
L1_BYTES = 200e3
REGISTER_FILE = 65536  # of a multiprocessor
MOST_WARPS = 64


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


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How a kernel is cut. Tiles have powers of two for sizes, since Triton knows no others."""

    co: int
    """Output channels of a program."""
    ci: int = 0
    """Input channels of a program."""
    pixels: int = 0
    """Pixels of one tile, where a program looks for the largest dO."""
    images: int = 1
    """Images of one step of the tensor form."""
    splits: int = 1
    """Shares of the batch that are summed apart."""
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to compute dW: what it takes by the model, and how its kernel is cut."""

    form: str
    seconds: float
    blocks: Blocks | None = None
    """None for the forms that have no kernel of ours but the selection: `full` and `dense`."""


class Layer(NamedTuple):
    """What is to be computed, and on what."""

    shape: ConvShape
    k: int
    dtype: str
    tf32: bool
    device: Device

    @property
    def taps(self) -> int:
        return prod(self.shape.kernel_size)

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]

    @property
    def x_bytes(self) -> int:
        return prod(self.shape.x_shape) * self.itemsize

    @property
    def dy_bytes(self) -> int:
        return prod(self.shape.y_shape) * self.itemsize

    @property
    def entry_bytes(self) -> int:
        """Position and value of every kept entry."""
        return 8 * self.shape.batch * self.k * self.shape.out_channels

    @property
    def macs(self) -> int:
        """Multiply-adds of the kept entries: one for each pixel that is fetched."""
        return self.shape.batch * self.k * self.shape.out_channels * self.taps * self.shape.in_channels


def full(layer: Layer) -> Plan:
    """The dense wgrad by cuDNN."""
    shape, device = layer.shape, layer.device
    columns = layer.taps * shape.in_channels
    n, ho, wo, co = shape.y_shape
    flops = 2.0 * n * ho * wo * _padded(co) * _padded(columns)
    if layer.dtype == "float32":
        rate = device.tf32 * CUDNN_TF32_SHARE if layer.tf32 else 2 * device.fma * CUDNN_FMA_SHARE
    else:
        rate = device.half * CUDNN_SHARE
    moved = layer.x_bytes + layer.dy_bytes + layer.itemsize * columns * co
    seconds = CUDNN_START + CUDNN_KERNELS * device.launch + max(flops / rate, moved / (device.hbm * HBM_SHARE))
    return Plan(form="full", seconds=seconds)


def dense(layer: Layer) -> Plan:
    """dO with all but the kept entries set to 0, and the dense wgrad of that."""
    seconds = full(layer).seconds
    if layer.k < prod(layer.shape.y_shape[1:3]):
        write = layer.device.launch + (layer.dy_bytes + layer.entry_bytes) / (layer.device.hbm * HBM_SHARE)
        seconds = seconds + select(layer) + write
    return Plan(form="dense", seconds=seconds)


def select(layer: Layer) -> float:
    """Seconds of finding the entries: dO once from HBM, later looks at it from L2."""
    device = layer.device
    looks = layer.k if layer.k <= MOST_ROUNDS else SORT_PASSES
    from_l2 = (looks - 1) * layer.dy_bytes / (device.l2 * L2_SHARE)
    return device.launch + (layer.dy_bytes + layer.entry_bytes) / (device.hbm * HBM_SHARE) + from_l2


def sparse(layer: Layer, form: str, blocks: Blocks) -> Plan:
    """The forms that fetch patches: `gather`, `fused` and `tensor`, with a kernel that is cut into `blocks`."""
    shape, device = layer.shape, layer.device
    co_blocks, ci_blocks = ceil(shape.out_channels / blocks.co), ceil(shape.in_channels / blocks.ci)
    share = ceil(shape.batch / blocks.splits)
    resident = _resident(layer, form, blocks)
    waves = max(co_blocks * ci_blocks * blocks.splits / (device.sms * resident), 1.0)
    steps = ceil(share / blocks.images) * layer.k * _step(layer, form, blocks)

    fetched = layer.macs * layer.itemsize
    image = shape.height * shape.width * blocks.ci * layer.itemsize
    seen = layer.k * blocks.co * layer.taps * blocks.ci * layer.itemsize
    once = min(image, seen) if min(image, seen) * resident <= L1_BYTES else seen
    from_l2 = once * shape.batch * co_blocks * ci_blocks + layer.entry_bytes * ci_blocks
    from_hbm = min(layer.x_bytes, fetched)
    before = 0.0 if form == "fused" else select(layer)
    if form == "fused":
        # Every block of input channels looks at dO for itself.
        numbers = blocks.pixels * blocks.co / (32 * blocks.warps)
        steps += share * layer.k * (LOOK_SECONDS + numbers * LOOK_NUMBER_SECONDS)
        from_l2 += layer.dy_bytes * layer.k * ci_blocks
        from_hbm += layer.dy_bytes

    busy = max(
        # Through shared memory once more, on the way to a tensor core.
        fetched * (2 if form == "tensor" else 1) / (device.l1 * L1_SHARE),
        from_l2 / (device.l2 * L2_SHARE),
        from_hbm / (device.hbm * (FUSED_HBM_SHARE if form == "fused" else HBM_SHARE)),
        _multiply(layer, form, blocks),
        waves * steps,
    )
    dw_bytes = 4 * layer.taps * shape.in_channels * shape.out_channels
    start = TENSOR_START if form == "tensor" else 0.0
    seconds = before + device.launch + start + busy + blocks.splits * dw_bytes / (device.l2 * L2_SHARE)
    if blocks.splits > 1:
        seconds += device.launch + (blocks.splits + 1) * dw_bytes / (device.l2 * L2_SHARE)
    return Plan(form=form, seconds=seconds, blocks=blocks)


def _resident(layer: Layer, form: str, blocks: Blocks) -> int:
    """Programs that a multiprocessor holds at the same time.

    Registers of a thread are fitted to what ptxas reports for sm_90a at the paper's shapes, within about 20 of 128.
    """
    threads = 32 * blocks.warps
    totals = blocks.co * blocks.ci * layer.taps / threads
    if form == "tensor":
        registers = max(180, 150 + 2 * totals)
    else:
        registers = max(22 + 1.5 * totals, 80 + totals if form == "fused" else 0)
    programs = min(REGISTER_FILE / (min(registers, 255) * threads), MOST_WARPS / blocks.warps)
    if form == "tensor":
        programs = min(programs, L1_BYTES / shared_bytes(blocks, layer))
    return max(int(programs), 1)


def _step(layer: Layer, form: str, blocks: Blocks) -> float:
    """Seconds that a program waits for one entry: those of a thread's loads that are under way at once decide."""
    if form == "tensor":
        return TENSOR_STEP_SECONDS
    known = STEP_SECONDS[layer.itemsize]
    numbers = blocks.co * blocks.ci // (32 * blocks.warps)
    return known[min(max(numbers, 1), max(known))]


def _multiply(layer: Layer, form: str, blocks: Blocks) -> float:
    """Seconds of the multiply-adds alone."""
    if form != "tensor":
        return layer.macs / (layer.device.fma * GATHER_FMA_SHARE)
    products = 2.0 * layer.macs * blocks.co  # each by the value of one channel and the zeros of the others
    if layer.dtype == "bfloat16":
        return 2 * products / (layer.device.half * TENSOR_SHARE)  # the two halves of the values
    return products / (layer.device.tf32 * TENSOR_SHARE)


def shared_bytes(blocks: Blocks, layer: Layer) -> int:
    """Shared memory of a program of the tensor form: Triton holds the tiles of all taps for each step it is ahead."""
    return (blocks.stages - 1) * layer.taps * blocks.images * blocks.co * blocks.ci * layer.itemsize


def power_of_two(number: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << max(number - 1, 0).bit_length()


def _padded(channels: int) -> int:
    return ceil(channels / CUDNN_TILE) * CUDNN_TILE
