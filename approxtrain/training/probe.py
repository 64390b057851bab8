"""How good approximated gradients are, measured while a network trains (`train.probe_every`).

Of a layer that a column approximates, with x the input of its convolution, dO the gradient of the loss by the output,
dW = Σ x ∗ dO the exact weight gradient and dW' what the layer's method makes of the same x, dO and random key:

    cosine            = ⟨dW', dW⟩ / (‖dW'‖ · ‖dW‖)
    norm_ratio        = ‖dW'‖ / ‖dW‖

and the same two of dx, `dx_cosine` and `dx_norm_ratio`, where the method approximates the input gradient and the step
asks for it: not in the first layer, whose input are the images.

With dO[n, :, :, c] as the plane of image n and channel c, s its sum and m its entry of largest |dO| (of equal ones the
first in row-major order):

    dead_planes       = share of the planes that are zero everywhere
    sign_disagreement = share, among the other planes, of those with sign(s) ≠ sign(m), where sign(0) = 0

A dW' of zeros points nowhere: its cosine is 0, so that norm_ratio · cosine, its part along dW, is none. What has no
value is NaN: cosine and norm ratio where dW is zero, sign disagreement where all planes are dead.

x and dO are those of the exact network: one forward pass and one backward pass of exact dgrads serve all layers. Where
the column has exact dgrads they are the step's own; below a layer that approximates its dgrad the step's dO is another
one, and a probe says how good each layer's method is by itself, not how errors add up on their way down. The probe is a
program of its own, which reads the state before the step consumes it: the steps are compiled and run as without it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from approxtrain.models.approximate import Convolution, Product, drawing, modules_by_path
from approxtrain.models.forward import forward
from approxtrain.schedule.bypass import inside
from approxtrain.training.batch import Images, Keys
from approxtrain.training.dispatch import Dispatch
from approxtrain.training.events import Listener
from approxtrain.training.parallel import on_first
from approxtrain.training.seeds import over_seeds
from approxtrain.training.step import Task, TrainState, Tree, losses
from approxtrain_kernels import Method
from approxtrain_kernels.methods.full import Full

FIGURES = ("cosine", "norm_ratio", "sign_disagreement", "dead_planes")
DX_FIGURES = ("dx_cosine", "dx_norm_ratio")

Cells = tuple[tuple[int, Method], ...]
"""Layers, by their number, each with its method."""


def figures_of(number: int, method: Method) -> tuple[str, ...]:
    """The names of what is measured of a layer."""
    return FIGURES if method.exact_dgrad or number == 1 else FIGURES + DX_FIGURES


class Probe:
    """Probes a run every `every` steps: a pure function of the step, so a resumed run probes as before.

    In each window of `every` steps, counted from the start of the run, the first step of each column is probed. A call
    of several steps is probed where it begins, for all the columns that are due in it: only there is a state to read.
    """

    def __init__(self, dispatch: Dispatch, every: int, seeds: Sequence[int], listener: Listener) -> None:
        self._dispatch, self._every, self._seeds, self._listener = dispatch, every, seeds, listener
        layers = dispatch.task.model.layers
        self._cells = [
            [
                (layer.number, method)
                for layer, method in zip(layers, column, strict=True)
                if method != Full() and not inside(layer.path, blocks)
            ]
            for column, blocks in zip(dispatch.schedule.columns, dispatch.schedule.column_absent, strict=True)
        ]
        self._compiled: dict[Cells, Any] = {}
        if not any(self._cells):
            listener.warn(f"train.probe_every={every} has no effect: the schedule approximates no layer.")

    def due(self, step: int, steps: int) -> Cells:
        """What is probed before a call that takes `steps` steps from `step`; mostly nothing."""
        schedule, cells = self._dispatch.schedule, set()
        for this in range(step, step + steps):
            column, window = schedule.index(this), this - this % self._every
            if self._cells[column] and not schedule.column_visits(window, this)[column]:
                cells.update(self._cells[column])
        return tuple(sorted(cells, key=lambda cell: (cell[0], cell[1].label)))

    def __call__(self, cells: Cells, state: TrainState, images: Images, order: jax.Array) -> list[dict[str, Any]]:
        """A row for each cell, of each seed, on the batch of the step that `state` is about to take."""
        arguments = on_first((state, images, order, self._dispatch.keys))
        if cells not in self._compiled:
            self._compile(cells, *arguments)
        measured = [np.asarray(values) for values in self._compiled[cells](*arguments)]  # of each cell [seeds, figures]
        rows = []
        for place, seed in enumerate(self._seeds):
            which = {"seed": seed} if len(self._seeds) > 1 else {}
            for (number, method), values in zip(cells, measured, strict=True):
                layer = {"layer": number, "path": self._dispatch.schedule.layers[number - 1], "method": method.label}
                figures = zip(figures_of(number, method), values[place].tolist(), strict=True)
                rows.append(which | layer | dict(figures))
        return rows

    def _compile(self, cells: Cells, *arguments: Any) -> None:
        self._listener.compiling_probe(len(cells))
        start = time.perf_counter()
        self._compiled[cells] = jax.jit(self._function(cells)).lower(*arguments).compile()
        self._listener.compiled(time.perf_counter() - start)

    def _function(self, cells: Cells) -> Any:
        def probe(state: TrainState, images: Images, order: jax.Array, keys: Keys) -> list[jax.Array]:
            def of_one_seed(params: Tree, stats: Tree, order: jax.Array, keys: Keys) -> list[jax.Array]:
                inputs = self._dispatch.inputs(state.step, images, order, keys)
                return measure(self._dispatch.task, cells, params, stats, *inputs)

            return over_seeds(of_one_seed, "map")(state.params, state.stats, order, keys)

        return probe


def measure(
    task: Task, cells: Cells, params: Tree, stats: Tree, x: jax.Array, labels: jax.Array, key: jax.Array
) -> list[jax.Array]:
    """`figures_of` each cell on one batch x `[B, H, W, C]`, with the key of a step, in float32."""
    seen = observe(task, {number for number, _ in cells}, params, stats, x, labels, key)
    measured = []
    for number, method in cells:
        (dx, dw), (exact_dx, exact_dw) = seen[number].gradients(method), seen[number].gradients(Full())
        figures = [*alignment(dw, exact_dw), *planes(seen[number].dy)]
        if len(figures_of(number, method)) > len(FIGURES):
            figures += alignment(dx, exact_dx)
        measured.append(jnp.stack(figures))
    return measured


class Observed(NamedTuple):
    """What a layer computed in an exact step: enough for its gradients by any method."""

    tap: _Tap
    operands: tuple[jax.Array, jax.Array]
    dy: jax.Array
    """dO, `[N, Ho, Wo, Co]` in float32."""
    key: jax.Array

    def gradients(self, method: Method) -> tuple[jax.Array, jax.Array]:
        """(dx, dW) of the layer by a method, as a training step takes them."""
        with drawing(self.key):
            return self.tap.gradients(*self.operands, self.dy, method)


def observe(
    task: Task, numbers: Iterable[int], params: Tree, stats: Tree, x: jax.Array, labels: jax.Array, key: jax.Array
) -> dict[int, Observed]:
    """Layers by their number, in one exact forward and backward pass of a batch x `[B, H, W, C]`."""
    layers = {number: task.model.layers[number - 1] for number in sorted(numbers)}
    taps: dict[int, _Tap] = {}

    def loss_of(added: dict[int, jax.Array]) -> tuple[jax.Array, dict[int, tuple[jax.Array, jax.Array]]]:
        network = task.network(params, stats)
        modules = modules_by_path(network)
        for number, layer in layers.items():
            attribute = "conv_general_dilated" if isinstance(modules[layer.path], nnx.Conv) else "dot_general"
            taps[number] = _Tap(getattr(modules[layer.path], attribute), added[number])
            setattr(modules[layer.path], attribute, taps[number])
        with drawing(key):
            logits = forward(network, x, training=True, key=key).astype(jnp.float32)
        loss = losses(task.train, logits, labels).mean()
        return loss, {number: tap.operands for number, tap in taps.items()}

    zeros = {number: jnp.zeros((len(x), *layer.shape.y_shape[1:])) for number, layer in layers.items()}
    outputs, operands = jax.grad(loss_of, has_aux=True)(zeros)
    return {number: Observed(taps[number], operands[number], outputs[number], key) for number in layers}


class _Tap:
    """In place of what a layer computes by: keeps its operands, and adds zeros to its result. The gradient by these is
    dO, `[N, Ho, Wo, Co]` in float32."""

    def __init__(self, function: Convolution | Product, added: jax.Array) -> None:
        self.function, self.added = function, added

    def __call__(self, x: jax.Array, w: jax.Array, *geometry: Any, **options: Any) -> jax.Array:
        self.operands, self.geometry, self.options = (x, w), geometry, options
        y = self.function(x, w, *geometry, **options)
        return y + self.added.astype(y.dtype).reshape(y.shape)

    def gradients(self, x: jax.Array, w: jax.Array, dy: jax.Array, method: Method) -> tuple[jax.Array, jax.Array]:
        function = replace(self.function, method=method)
        y, pullback = jax.vjp(lambda x, w: function(x, w, *self.geometry, **self.options), x, w)
        return pullback(dy.astype(y.dtype).reshape(y.shape))


def alignment(approximated: jax.Array, exact: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cosine, norm_ratio) of two gradients of one shape, in float32."""
    (a, length), (b, exact_length) = _direction(approximated), _direction(exact)
    known = jnp.where(exact_length == 0, jnp.nan, 1.0)  # times NaN is NaN
    return known * jnp.clip(jnp.vdot(a, b), -1, 1), known * length / exact_length


def _direction(gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`gradient` as a vector of length 1, or of zeros; and its length. Squares of small numbers do not underflow."""
    vector = gradient.astype(jnp.float32).ravel()
    largest = jnp.abs(vector).max()
    vector = jnp.where(largest == 0, vector, vector / largest)
    length = jnp.sqrt(jnp.vdot(vector, vector))
    return jnp.where(largest == 0, vector, vector / length), largest * length


def planes(dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sign_disagreement, dead_planes) of an output gradient dO `[N, Ho, Wo, Co]`, in float32."""
    n, ho, wo, co = dy.shape
    pixels = dy.astype(jnp.float32).reshape(n, ho * wo, co)
    position = jnp.abs(pixels).argmax(1, keepdims=True)
    largest, total = jnp.take_along_axis(pixels, position, 1)[:, 0], pixels.sum(1)
    alive = largest != 0
    disagree = alive & (jnp.sign(total) != jnp.sign(largest))
    return disagree.sum() / alive.sum(), (~alive).mean(dtype=jnp.float32)
