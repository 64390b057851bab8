"""Alignment with the gradient over many batches, held against float64 from the gradients of whole steps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from approxtrain.training.moved import by_path
from approxtrain.training.seeds import over_seeds
from approxtrain.training.step import backward
from approxtrain.worth.alignment import Aligner, cells_of
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.full import Full

BATCHES, SINGLE = 6, 1  # of an epoch, and those of them that are held against the mean of the others


@pytest.fixture
def bench(assemble, pocket):
    return assemble(pocket, {"grid": [["full"], ["pooled"], ["approx"]]})


def gradients(bench, column) -> list[dict[str, np.ndarray]]:
    """Of each batch of the epoch, by the weights' paths, in float64."""
    dispatch, state = bench.dispatch, bench.state
    found = []
    for step in range(BATCHES):
        inputs = over_seeds(partial(dispatch.inputs, state.step + step, bench.images), "vmap")(
            bench.order, dispatch.keys
        )
        result = over_seeds(partial(backward, dispatch.task, column), "map")(state.params, state.stats, *inputs)
        found.append({name: np.asarray(leaf, np.float64)[0] for name, leaf in by_path(result.gradient).items()})
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.gate
def test_it_is_the_ratio_of_the_cosines_to_the_mean_of_other_batches(bench):
    layers, dispatch = bench.dispatch.task.model.layers, bench.dispatch
    column = dispatch.schedule.columns[0]
    exact, approximated = gradients(bench, [Full()] * 3), gradients(bench, column)
    aligner = Aligner(dispatch, cells_of([dispatch], 0, 4))
    assert (aligner.mean, aligner.single) == (BATCHES - SINGLE, SINGLE)
    found = aligner(7, bench.state, bench.images, bench.order)
    assert [(each.epoch, each.layer, each.method) for each in found] == [(7, 2, "pooled"), (7, 3, "approx")]
    for each in found:
        name = f"{layers[each.layer - 1].path}/kernel"
        mean = sum(batch[name] for batch in exact[: BATCHES - SINGLE])
        by_exact, by_method = cosine(exact[-1][name], mean), cosine(approximated[-1][name], mean)
        assert (each.alignment, each.exact_cosine) == pytest.approx((by_method / by_exact, by_exact), rel=1e-4)


def test_exact_gradients_are_aligned_as_they_are_and_zeros_point_nowhere(bench):
    found = Aligner(bench.dispatch, ((2, Full()), (2, make("zero"))))(1, bench.state, bench.images, bench.order)
    assert [each.alignment for each in found] == [1.0, 0.0]


def test_the_cells_are_those_of_the_steps_that_are_taken(assemble, pocket):
    bench = assemble(pocket, {"grid": [["full", "zero"], ["full", "full"], ["approx", "full"]]})
    assert cells_of([bench.dispatch], 0, 1) == ((3, make("approx")),)
    assert cells_of([bench.dispatch] * 2, 1, 2) == ((1, make("zero")), (3, make("approx")))
