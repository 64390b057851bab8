"""The frozen prefix: which parts it holds, what the compiled step no longer has, and that nothing else changes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from approxtrain import models
from approxtrain.errors import ConfigError
from approxtrain.models import Model
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.schedule.frozen_prefix import frozen_parts, prefix
from approxtrain_kernels.methods import all_methods, make
from tests.sampling import chosen

NATIVE = True
CONVOLUTION = r' convolution\(| custom-call\(.*custom_call_target="approxtrain_(?:forward|dgrad|wgrad)_\w+"'
NAMES = {"F": "full", "Z": "zero", "S": "skip", "R": "random", "A": "approx"}
CASES = [
    ("pocket", "ZFF"),
    pytest.param(("pocket", "SZF"), marks=pytest.mark.gate),
    pytest.param(("pocket", "ZZZ"), marks=pytest.mark.long),
    pytest.param(("cnn2", "ZF"), marks=pytest.mark.long),
    # ends inside a block, so that a shortcut passes by
    pytest.param(("resnet14", "Z" * 6 + "F" * 7), marks=pytest.mark.long),
    pytest.param(("resnet20", "S" * 5 + "F" * 14), marks=pytest.mark.long),
]
B1, B2 = 0.9, 0.999


def column(letters: str) -> tuple:
    return tuple(make(NAMES[letter]) for letter in letters)


def schedule(*columns: str, on: bool = True) -> dict[str, Any]:
    """The schedule that goes through these columns in turn, one letter a layer."""
    return {"grid": [[NAMES[letter] for letter in row] for row in zip(*columns, strict=True)], "frozen_prefix": on}


class Run(NamedTuple):
    """One step: its compiled program, and the state after it."""

    text: str
    state: Any


@pytest.fixture(name="runs", scope="module")
def _runs() -> dict[tuple[str, str, bool], Run]:
    """What has been run already, by model, column and flag: most of a test here is compiling."""
    return {}


@pytest.fixture(name="pair", params=CASES, ids="-".join)
def _pair(request, runs, assemble, pocket) -> tuple[Model, str, Run, Run]:
    """A model and a column; its step with the flag, and without it."""
    name, letters = request.param
    model = pocket if name == "pocket" else models.get(name)
    for on in (True, False):
        if (name, letters, on) not in runs:
            bench = assemble(model, schedule(letters, on=on), augment=False)
            state = bench.run(1)[0][1]
            runs[name, letters, on] = Run(bench.dispatch.compiled[0, 1].as_text(), state)
    return model, letters, runs[name, letters, True], runs[name, letters, False]


def parameters(state) -> dict[str, bytes]:
    """Path → bits of every array of a state."""
    return {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def norms(model: Model, letters: str) -> list[str]:
    weights = [layer.path for layer in model.layers]
    return [path for path in frozen_parts(model.layers, column(letters)) if path not in weights]


# Which parts


@pytest.mark.parametrize(
    ("letters", "length"),
    [("ZSF", 2), ("SSS", 3), ("FZZ", 0), ("ZFZ", 1), ("RZZ", 0), ("ZAZ", 1)],
)
def test_the_prefix_is_the_longest_run_of_lowest_layers_without_a_gradient(letters, length):
    assert prefix(column(letters)) == length


def test_zero_and_skip_are_the_methods_that_give_no_gradient():
    assert [name for name in all_methods() if not make(name).gives_gradient] == ["skip", "zero"]


def test_a_norm_belongs_to_the_convolution_before_it():
    assert list(frozen_parts(models.get("cnn2").layers, column("ZF"))) == ["conv1", "norm1"]  # a pooling lies between
    inside = frozen_parts(models.get("resnet14").layers, column("ZS" + "F" * 11))
    assert {path: method.name for path, method in inside.items()} == {
        "stem/conv": "zero",
        "stem/norm": "zero",
        "stage1/0/conv1": "skip",
        "stage1/0/norm1": "skip",
    }


def test_a_norm_of_the_images_belongs_to_the_first_convolution():
    layers = Model("", "", "tests.networks:NormFirst").layers
    assert list(frozen_parts(layers, column("ZF"))) == ["a", "images"]
    assert frozen_parts(layers, column("FZ")) == {}


# Which schedules


def from_rules(**section: Any) -> Schedule:
    config = ScheduleConfig.model_validate({"frozen_prefix": True, **section})
    return Schedule.from_config(config, models.get("cnn5").layers, 10)


@pytest.mark.parametrize("method", ["random", "approx"])
def test_a_prefix_that_no_step_has_is_an_error_that_names_the_layer(method):
    with pytest.raises(ConfigError) as raised:
        from_rules(rules=[{"layers": [1, 3], "method": method}, {"layers": [2], "method": "zero"}])
    (problem,) = raised.value.problems
    assert problem.startswith(
        "`schedule.frozen_prefix`: there is no step that has one: the lowest layer, 1 features/0/conv, "
    )
    assert "is never `skip` or `zero`" in problem


def test_a_prefix_at_one_step_of_many_is_enough():
    assert from_rules(rules=[{"layers": [1], "method": "zero", "steps": {"start": 7, "every": 40}}]).frozen_prefix


def test_the_exact_baseline_of_a_schedule_with_a_prefix_is_the_exact_schedule():
    assert from_rules(name="schedule3", method="full") == from_rules(name="full", frozen_prefix=False)


# What is compiled


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU's convolutions are calls into cuDNN")
def test_the_dgrads_from_the_second_layer_to_the_one_above_the_prefix_are_gone(pair):
    model, letters, *two = pair
    with_, without = (len(re.findall(CONVOLUTION, run.text)) for run in two)
    above = model.layers[1 : prefix(column(letters)) + 1]
    assert without - with_ == len(above) > 0


@pytest.mark.parametrize(
    "letters", ["FZZ", *(pytest.param(letters, marks=pytest.mark.long) for letters in ("RSF", "FFF"))]
)
def test_a_column_without_a_prefix_is_the_same_program_with_the_flag(letters, assemble, pocket):
    texts = []
    for on in (True, False):
        bench = assemble(pocket, schedule(letters, "ZFF", on=on))
        step = jax.jit(bench.dispatch.step_function(0))
        texts.append(step.lower(bench.state, bench.images, bench.order, bench.dispatch.keys).as_text())
    assert texts[0] == texts[1]


# What is computed


def test_only_norms_of_the_prefix_differ_from_the_run_without_it(pair):
    model, letters, *two = pair
    ours, theirs = (parameters(run.state) for run in two)
    differ = {path for path in ours if ours[path] != theirs[path]}
    frozen = norms(model, letters)
    assert differ == {path for path in ours if any(f"['{part}']" in path for part in frozen) and ".stats" not in path}
    assert len(differ) == len(frozen) * 2 * 3  # scale and bias, and two moments of each


@pytest.mark.parametrize("mode", ["host", "switch"])
def test_under_skip_norms_biases_and_their_moments_are_held_bit_for_bit(mode, assemble):
    model = Model("biased", "", "tests.networks:Biased", image_shape=(8, 8, 3))
    states, _ = assemble(model, schedule("FF", "FF", "SF"), mode=mode).run(3)
    before, after = map(parameters, states[2:])
    same = {path for path in before if before[path] == after[path]}
    held = ["['a']['kernel']", "['a']['bias']", "['norm']['scale']", "['norm']['bias']"]
    assert same == {path for path in before if any(path.endswith(end) for end in held)}
    assert len(same) == 3 * len(held)


def test_under_zero_the_moments_of_norms_decay_and_still_move_them(assemble, pocket):
    states, _ = assemble(pocket, schedule("FFF", "FFF", "ZFF")).run(3)
    before, after = (state.opt_state[0] for state in states[2:])
    for name in ("scale", "bias"):
        m, v = (np.asarray(tree["norm1"][name]) for tree in (before.mu, before.nu))
        np.testing.assert_allclose(after.mu["norm1"][name], B1 * m, rtol=1e-5)
        np.testing.assert_allclose(after.nu["norm1"][name], B2 * v, rtol=1e-5)
        old, new = (state.params["norm1"][name] for state in states[2:])
        assert np.abs(new - old).max() > 1e-3


@pytest.mark.parametrize("letters", chosen(["ZZF", "SSS"], ["ZZF"]))
def test_running_averages_of_a_frozen_norm_go_on(letters, assemble, pocket):
    states, _ = assemble(pocket, schedule(letters)).run(2)
    for name in ("mean", "var"):
        old, new = (state.stats["norm1"][name] for state in states[1:])
        assert (old != new).all()


@pytest.mark.gate
@pytest.mark.parametrize("cycle", [["ZFF", "FFF"], pytest.param(["SZF", "FSS", "ZZZ"], marks=pytest.mark.long)])
def test_host_and_switch_compute_the_same_steps_but_for_the_last_digit(cycle, assemble, pocket):
    host, switch = (assemble(pocket, schedule(*cycle), mode=mode).run(7) for mode in ("host", "switch"))
    np.testing.assert_allclose(switch[1], host[1], rtol=2e-6)
    for ours, theirs in zip(switch[0], host[0], strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5 * np.abs(b).max()), ours, theirs
        )


@pytest.mark.gate
def test_bfloat16_trains_with_a_prefix(assemble, pocket):
    states, losses = assemble(pocket, schedule("ZSF"), precision="bfloat16").run(2)
    assert np.isfinite(losses).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(states[2].params)} == {np.dtype(np.float32)}
