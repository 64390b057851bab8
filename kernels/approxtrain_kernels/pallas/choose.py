"""Which form of `approx` is the fastest for a layer on a device, by a written model. Imports no jax.

    full      the dense wgrad itself, to hold the others against
    dense     dO with all but the kept entries set to 0, and the dense wgrad of that: always slower than `full`
    gather    select the entries, fetch their patches: two kernels and the sum of the splits
    fused     the same in one kernel and the sum: pays where launches are the time
    tensor    the patches multiplied by tensor cores

What each costs is in `model`, whose assumptions are not measured.
"""

from __future__ import annotations

from dataclasses import replace

from approxtrain_kernels.geometry import ConvShape
from approxtrain_kernels.pallas import model
from approxtrain_kernels.pallas.model import DEFAULT, Blocks, Device, Layer, Plan

FORMS = ("gather", "fused", "tensor", "dense")
REGISTERS = 80
"""Accumulators of a thread, at most; the rest of its 255 registers holds pixels and addresses."""
ROWS = (32, 64)
"""Pairs of image and channel of a step of the tensor form."""
TENSOR_TAPS = 9
"""Of the tensor form, at most: compiled for sm_90a, 25 taps and more spill registers."""
SHARED_BYTES = 110e3
"""Of a program of the tensor form: two fit on a multiprocessor."""


def choose(
    shape: ConvShape, k: int = 1, dtype: str = "float32", *, tf32: bool = True, device: Device = DEFAULT
) -> Plan:
    """The plan for `approx` with k entries: the fastest by the model, but `dense` where no form beats a full wgrad.

    `dense` is then taken even where the model holds another form for a little faster: whatever is wrong with the model,
    it costs no more than a full wgrad and a look at dO.

    `tf32` says whether products of float32 may be rounded to TF32, as XLA does unless it is told otherwise.
    """
    *sparse, rest = plans(shape, k, dtype, tf32=tf32, device=device)
    best = min(sparse, key=lambda plan: plan.seconds, default=rest)
    return best if best.seconds < full(shape, dtype, tf32=tf32, device=device).seconds else rest


def plans(
    shape: ConvShape, k: int = 1, dtype: str = "float32", *, tf32: bool = True, device: Device = DEFAULT
) -> list[Plan]:
    """The best plan of each form there is for this layer, `dense` last."""
    layer = Layer(shape, k, dtype, tf32, device)
    found = []
    for form in FORMS[:-1]:
        cuts = [model.sparse(layer, form, blocks) for blocks in cuttings(form, layer)]
        if cuts:
            found.append(min(cuts, key=lambda plan: plan.seconds))
    return [*found, model.dense(layer)]


def full(shape: ConvShape, dtype: str = "float32", *, tf32: bool = True, device: Device = DEFAULT) -> Plan:
    """The full wgrad, by the same model."""
    return model.full(Layer(shape, 1, dtype, tf32, device))


def verdict(
    shape: ConvShape, k: int = 1, dtype: str = "float32", *, tf32: bool = True, device: Device = DEFAULT
) -> tuple[bool, str]:
    """Whether `approx` is expected to be faster than the full wgrad of this layer on this device, and why."""
    plan = choose(shape, k, dtype, tf32=tf32, device=device)
    whole = full(shape, dtype, tf32=tf32, device=device)
    _, ho, wo, _ = shape.y_shape
    products = ("TF32" if tf32 else "strict float32") if dtype == "float32" else dtype
    times = (
        f"{plan.seconds * 1e6:.0f} µs against {whole.seconds * 1e6:.0f} µs of the full wgrad in {products} "
        f"(modelled for {device.name}, not measured)"
    )
    if plan.form == "dense":
        return False, f"approx does not pay: with {k} of {ho}×{wo} outputs kept, the dense form is the best, {times}."
    return True, f"approx pays: {k} of {ho}×{wo} outputs kept, by the form {plan.form!r}, {times}."


def cuttings(form: str, layer: Layer) -> list[Blocks]:
    """The ways to cut a form's kernel that are worth a look: tiles that fit into registers, splits of the batch."""
    shape, k = layer.shape, layer.k
    _, ho, wo, _ = shape.y_shape
    if k >= ho * wo:
        return []  # then approx is the full wgrad
    if form == "tensor" and (layer.taps > TENSOR_TAPS or (layer.dtype == "float32" and not layer.tf32)):
        return []
    if form == "fused" and k > model.MOST_ROUNDS:
        return []
    most_co, most_ci = (min(model.power_of_two(c), 128) for c in (shape.out_channels, shape.in_channels))
    found = []
    for co in [16] if form == "tensor" else [c for c in (8, 16, 32) if c <= max(most_co, 8)]:
        for ci in [c for c in (128, 64, 32, 16) if c <= max(most_ci, 16)]:  # the widest of equals
            for warps in (4, 8):
                if co * ci * layer.taps > REGISTERS * 32 * warps or co * ci < 32 * warps:
                    continue
                blocks = Blocks(co=co, ci=ci, warps=warps)
                if form == "fused":
                    blocks = replace(blocks, pixels=_tile(ho * wo, co, warps, k))
                cuts = _steps(blocks, layer) if form == "tensor" else [blocks]
                splits = [2**power for power in range(shape.batch.bit_length())]
                found += [replace(cut, splits=shares) for cut in cuts for shares in splits]
    return found


def select_blocks(shape: ConvShape, k: int) -> Blocks:
    """How the kernel that selects is cut: a row of its tile is 128 bytes of float32, where there are the channels."""
    pixels = shape.y_shape[1] * shape.y_shape[2]
    co = min(model.power_of_two(shape.out_channels), 32)
    warps = 4 if pixels <= 128 else 8
    return Blocks(co=co, pixels=_tile(pixels, co, warps, k), warps=warps)


def _tile(pixels: int, co: int, warps: int, k: int) -> int:
    """Pixels of a look at dO: 16 for each thread with its three running numbers, 8 where k > 1 needs more."""
    per_thread = 16 if k == 1 else 8
    return max(min(model.power_of_two(pixels), per_thread * 32 * warps // co), 1)


def _steps(blocks: Blocks, layer: Layer) -> list[Blocks]:
    """Rows of a step and depth of the pipeline of the tensor form, as far as they fit into shared memory."""
    cuts = [replace(blocks, images=rows // blocks.co, stages=stages) for rows in ROWS for stages in (2, 3)]
    return [cut for cut in cuts if model.shared_bytes(cut, layer) <= SHARED_BYTES]
