"""What is in the compiled steps, read from XLA's optimised program: no more contractions than a column needs.

A network of L convolutions and one linear layer has, in a step on a CPU,

    forward   L convolutions
    dgrad     L − 1 (nobody asks for the gradient of the images; the batch norm above the first asks for all others)
    wgrad     one for each layer whose method needs it
    linear    3 matrix products: forward, dgrad, wgrad
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from approxtrain import disk, models
from approxtrain.config import dump
from approxtrain.models import Model
from approxtrain.run.folder import RunFolder
from approxtrain.training.batch import Images, Keys
from approxtrain.training.dispatch import choose_mode
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.seeds import over_seeds
from approxtrain.training.step import TrainState, backward
from approxtrain_kernels import native
from approxtrain_kernels.methods import make
from approxtrain_kernels.methods.approx import Approx
from tests.sampling import chosen

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU's convolutions are calls into cuDNN")

NATIVE = True
CONVOLUTION = r' convolution\(| custom-call\(.*custom_call_target="approxtrain_(?:forward|dgrad|wgrad)_\w+"'
WITHOUT_WGRAD = ["zero", "skip", "random", "approx"]
FULL, ZERO, RANDOM, SKIP = ["full"] * 3, ["zero"] * 3, ["random"] * 3, ["full", "skip", "zero"]
MIXED = ["zero", "full", "random"]


def columns(*methods: list[str]) -> dict:
    """The schedule that goes through these columns in turn."""
    return {"grid": [list(row) for row in zip(*methods, strict=True)]}


def convolutions(model: Model, column: list[str]) -> int:
    """Forward, dgrad of all but the first, wgrad of those that are exact."""
    return len(model.layers) + len(model.layers) - 1 + column.count("full")


def contractions(text: str) -> tuple[int, int]:
    """Convolutions, by code of our own or by XLA, and matrix products."""
    return len(re.findall(CONVOLUTION, text)), text.count(" dot(")


def first_program(bench) -> str:
    bench.run(1)
    return bench.dispatch.compiled[0, 1].as_text()


@pytest.fixture(name="gather")
def _gather(monkeypatch: pytest.MonkeyPatch) -> None:
    """`approx` fetches patches at every shape, also where a dense wgrad would be faster."""
    monkeypatch.setattr(Approx, "gathers", lambda self, shape: True)


@pytest.mark.parametrize("name", chosen(["full", *WITHOUT_WGRAD], ["zero", "approx"]))
def test_only_full_leaves_a_weight_gradient_in_the_compiled_step(name, assemble, pocket, gather):
    text = first_program(assemble(pocket, columns([name] * 3)))
    assert contractions(text) == (convolutions(pocket, [name] * 3), 3)


def test_a_layer_that_is_exact_costs_its_own_weight_gradient_and_no_other(assemble, pocket):
    text = first_program(assemble(pocket, columns(MIXED)))
    assert contractions(text) == (convolutions(pocket, ZERO) + 1, 3)


@pytest.mark.gate
def test_on_cnn5_zero_leaves_forward_and_input_gradients(assemble):
    cnn5 = models.get("cnn5")
    text = first_program(assemble(cnn5, {"rules": [{"method": "zero"}]}))
    assert contractions(text) == (convolutions(cnn5, ["zero"] * 5), 3)


@pytest.mark.parametrize("name", chosen(["full", *WITHOUT_WGRAD], ["zero", "approx"]))
def test_by_xla_maps_of_four_pixels_are_products(name, assemble, gather, monkeypatch):
    """A forward and a dgrad are a product for each of the 4 pixels; a wgrad, which only full has, is one product."""
    monkeypatch.setattr(native, "available", lambda: False)
    model = Model("2x2", "", "tests.networks:FourPixels", image_shape=(2, 2, 8))
    bench = assemble(model, {"name": "full"})
    step = jax.jit(over_seeds(partial(backward, bench.dispatch.task, (make(name), make(name))), "map"))
    x, labels, key = jnp.zeros((1, 32, 2, 2, 8)), jnp.zeros((1, 32), jnp.int32), bench.dispatch.keys.gradient
    text = step.lower(bench.state.params, bench.state.stats, x, labels, key).compile().as_text()
    assert contractions(text) == (0, 2 * 4 + 4 + 3 + (2 if name == "full" else 0))


@pytest.mark.parametrize("cycle", [[FULL, ZERO], [MIXED, FULL, MIXED, ZERO], [ZERO, RANDOM, FULL, MIXED, SKIP]])
def test_under_switch_one_conditional_has_a_branch_for_each_distinct_column(cycle, assemble, pocket):
    distinct = [column for number, column in enumerate(cycle) if column not in cycle[:number]]
    bench = assemble(pocket, columns(*cycle), mode="switch")
    text = first_program(bench)
    (branches,) = re.findall(r" conditional\(.*branch_computations=\{(.*?)\}", text)
    assert len(branches.split(",")) == len(distinct) == len(bench.dispatch.schedule.columns)
    # Each branch holds what its column needs, and outside of the branches there is nothing to choose from.
    where = re.findall(rf'(?:{CONVOLUTION}).*op_name="[^"]*?branch_(\d)_fun', text)
    found = [where.count(str(number)) for number in range(len(distinct))]
    assert found == [convolutions(pocket, column) for column in distinct]
    assert contractions(text)[0] == sum(found)


def test_the_data_set_is_no_operand_of_the_conditional(assemble, pocket):
    text = first_program(assemble(pocket, columns(FULL, ZERO), mode="switch"))
    images = "u8[200,8,8,3]"
    assert images in re.search(r"^ENTRY .*", text, re.MULTILINE)[0]
    (branches,) = re.findall(r" conditional\(.*branch_computations=\{(.*?)\}", text)
    for branch in branches.split(", "):
        head = re.search(rf"^{re.escape(branch)} .*", text, re.MULTILINE)[0]
        assert "f32[1,32,8,8,3]" in head  # the batch
        assert images not in head


@pytest.mark.gate
@pytest.mark.parametrize(
    "cycle", [pytest.param([FULL, ZERO], marks=pytest.mark.long), [MIXED, FULL, RANDOM, ZERO, SKIP]]
)
def test_host_and_switch_compute_the_same_steps_but_for_the_last_digit(cycle, assemble, pocket):
    host, switch = (assemble(pocket, columns(*cycle), mode=mode).run(7) for mode in ("host", "switch"))
    np.testing.assert_allclose(switch[1], host[1], rtol=2e-6)
    for ours, theirs in zip(switch[0], host[0], strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5 * np.abs(b).max()), ours, theirs
        )


@pytest.mark.gate
@pytest.mark.parametrize("frozen_prefix", [False, True])
def test_a_branch_gives_the_bits_of_its_column_alone(frozen_prefix, assemble, pocket):
    bench = assemble(pocket, columns(ZERO, FULL, MIXED, RANDOM, SKIP), mode="switch")
    found = [
        over_seeds(partial(backward, bench.dispatch.task, column, frozen_prefix=frozen_prefix), "map")
        for column in bench.dispatch.schedule.columns
    ]
    of_one_seed = partial(bench.dispatch.inputs, bench.state.step, bench.images)
    inputs = over_seeds(of_one_seed, "map")(bench.order, bench.dispatch.keys)
    arguments = (bench.state.params, bench.state.stats, *inputs)
    switched = jax.jit(lambda index, *arguments: jax.lax.switch(index, found, *arguments))
    assert len(found) == 5
    for number, alone in enumerate(found):
        jax.tree.map(np.testing.assert_array_equal, switched(number, *arguments), jax.jit(alone)(*arguments))


@pytest.mark.gate
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("cycle", [[FULL, ZERO], [MIXED, FULL]])
def test_around_the_switch_no_weight_and_no_moment_is_copied(cycle, chunk, assemble, pocket):
    bench = assemble(pocket, columns(*cycle), mode="switch", chunk=chunk)
    bench.run(1)
    parts = re.split(r"\n(?=\S)", bench.dispatch.compiled[0, chunk].as_text())
    (around,) = [part for part in parts if " conditional(" in part]  # the step, or the body of the loop over steps
    assert re.search(r"= f32\[1,3,3,8,8\]\S* fusion\(", around)  # the optimiser is in there
    copied = set(re.findall(r"= f32\[(?:1,)?([\d,]+)\]\S* copy\(", around))
    assert copied & {"3,3,3,8", "3,3,8,8", "8,10"} == set()


def test_the_axis_of_a_single_seed_changes_no_bit(assemble, pocket):
    bench = assemble(pocket, {"name": "full"})
    state = bench.state
    task, (order,), keys = bench.dispatch.task, bench.order, Keys(*(key for (key,) in bench.dispatch.keys))
    own = TrainState(state.step, *jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, state[1:]))

    @jax.jit
    def without(state: TrainState, images: Images) -> TrainState:
        inputs = bench.dispatch.inputs(state.step, images, order, keys)
        result = backward(task, bench.dispatch.schedule.columns[0], *state[1:3], *inputs)
        updates, opt_state = task.optimizer.update(result.gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(step=state.step + 1, params=params, stats=result.stats, opt_state=opt_state)

    for ours in bench.run(3)[0][1:]:
        own = without(own, bench.images)._replace(loss_sum=ours.loss_sum, correct_sum=ours.correct_sum)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.ravel(a), np.ravel(b)), ours, own)


@pytest.mark.parametrize(
    ("backend", "mode", "columns", "expected"),
    [
        ("cpu", "auto", 2, "switch"),
        ("gpu", "auto", 2, "host"),
        ("cpu", "host", 2, "host"),
        ("gpu", "switch", 2, "switch"),
        ("cpu", "switch", 1, "host"),
    ],
)
def test_a_cpu_switches_and_a_gpu_is_dispatched_from_the_host(backend, mode, columns, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert choose_mode(mode, columns) == expected


@pytest.fixture(name="compiled")
def _compiled() -> Iterator[list[str]]:
    """The names of all programs that any part of jax has XLA compile, as it happens."""
    names: list[str] = []

    def note(event: str, seconds: float, **details: str) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(note)
    yield names
    jax.monitoring.unregister_event_duration_listener(note)


def by_epoch(path: Path, config, compiled: list[str]) -> list[list[str]]:
    """What is compiled in each epoch of a run: steps, validation, rows and checkpoints."""
    seen: list[int] = []

    class Note(Listener):
        def begin(self, work, step):
            seen.append(len(compiled))

        def epoch(self, row):
            seen.append(len(compiled))

    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        Run(config, folder, Note()).train()
    return [compiled[first:last] for first, last in pairwise(seen)]


@pytest.mark.gate
@pytest.mark.parametrize(("dispatch", "expected"), [("host", [2, 2, 0]), ("auto", [1, 0, 0])])
def test_a_column_is_compiled_before_its_first_use_and_nothing_ever_after(
    dispatch, expected, tmp_path, small, configure, compiled
):
    alternating = {"method": "zero", "layers": [2], "steps": {"every": 2}}
    later = {"method": "random", "layers": [3], "epochs": {"from": 2}}  # two columns that the first epoch has not
    config = configure({"rules": [alternating, later], "dispatch": dispatch}, validate_every=1, checkpoint_every=2)
    epochs = by_epoch(tmp_path / "run", config, compiled)
    assert [epoch.count("jit(step)") for epoch in epochs] == expected
    assert [len(epoch) for epoch in epochs[1:]] == expected[1:]
