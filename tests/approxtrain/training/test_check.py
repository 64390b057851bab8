"""`train.check="finite"`: what is looked at besides the loss, and which layer, method and step are blamed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from approxtrain.errors import DivergedError
from approxtrain.models.batch_norm import BatchNorm
from approxtrain.run import divergence, record
from approxtrain.run.folder import RunFolder
from approxtrain.schedule import Schedule
from approxtrain.training.blame import Blame
from approxtrain.training.events import Listener
from approxtrain.training.finite import Place, places
from approxtrain.training.loop import Run
from approxtrain.training.workload import Workload
from approxtrain_kernels import dense, methods
from approxtrain_kernels.method import Method
from tests.networks import Small

TWO_COLUMNS = {"grid": [["full", "zero"], ["full", "random"], ["skip", "full"]]}


@dataclass(frozen=True)
class Poison(Method):
    """No number in dW; in dx instead where that is asked for."""

    dx: bool = False

    name = "poison"
    summary = "no numbers"
    needs = frozenset({"dy"})

    def flops(self, shape):
        return 0

    def gradients(self, kept, w, dy, *, shape, key):
        wrong = [jnp.nan, 0.0] if self.dx else [0.0, jnp.nan]
        return dense.dgrad(dy, w, shape) + wrong[0], jnp.zeros(shape.w_shape) + wrong[1]


class Counting(BatchNorm):
    """Its mean is no number in the third step, which nothing but validation reads."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.count = nnx.BatchStat(jnp.int32(0))

    def __call__(self, x: jax.Array, use_running_average: bool | None = None, **options: object) -> jax.Array:
        y = super().__call__(x, use_running_average)
        self.count[...] += 1
        self.mean[...] = jnp.where(self.count[...] == 3, jnp.nan, self.mean[...])
        return y


class Forgetful(Small):
    """`Small` with a norm that forgets."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(classes, rngs=rngs)
        self.norm2 = Counting(8)


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the length of a test one of the methods there are."""
    monkeypatch.setitem(methods.all_methods(), "poison", Poison)


def poisoned(layer: int, step: int, **params: bool) -> dict:
    rule = {"method": "poison", "params": params, "layers": [layer], "steps": {"start": step, "stop": step + 1}}
    return {"rules": [{"method": "zero", "layers": [1]}, rule | {"order": 1}]}


def told(path: Path, config) -> str:
    """What a run that diverges says, without its advice, which is looked at here."""
    with RunFolder.create(path) as folder, pytest.raises(DivergedError) as error:
        Run(config, folder, Listener()).train()
    noted = divergence.noted(path)
    assert noted is not None
    assert (noted["message"], noted["step"]) == (str(error.value), error.value.step)
    message, saved, advice = re.split(r" What was saved before is finite and stays in (\S+)\. ", str(error.value))
    assert Path(saved).parent == path / "checkpoints"
    assert (Path(saved) / "meta.json").is_file()
    assert advice.startswith("Start a new run with a smaller `optimizer.learning_rate`")
    return message


@pytest.mark.parametrize("mode", ["host", "switch"])
def test_without_it_the_step_has_no_output_and_no_operation_more(assemble, pocket, mode):
    def program(**train):
        bench = assemble(pocket, TWO_COLUMNS, mode=mode, **train)
        arguments = (bench.state, bench.images, bench.order, bench.dispatch.keys)
        return jax.make_jaxpr(bench.dispatch.step_function(0))(*arguments), bench

    (without, (dispatch, state, *_)), (checked, _) = program(), program(check="finite")
    assert len(without.out_avals) == len(jax.tree.leaves(state)) + 2  # loss and correct
    assert str(without).count("= is_finite ") == len(dispatch.programs[0])  # the cross-entropy's own, of each column
    (flags,) = checked.out_avals[len(without.out_avals) :]
    assert (flags.shape, flags.dtype) == ((1, len(places(state))), bool)


def test_every_parameter_moment_and_statistic_is_looked_at(assemble, pocket):
    found = places(assemble(pocket, {"name": "full"}).state)
    modules = ["first", "logits", "norm1", "norm2", "norm3", "second", "third"]
    assert sorted(found) == [
        *(Place("gradient", module) for module in modules),
        *(Place("state", module) for module in modules),
        *(Place("statistics", f"norm{number}") for number in (1, 2, 3)),
    ]


@pytest.mark.gate
@pytest.mark.parametrize(
    ("mode", "seeds"),
    [
        ("host", {}),
        ("switch", {"seeds": 2, "seeds_by": "map"}),
        ("host", {"seeds": 2, "seeds_by": "vmap"}),
        pytest.param("switch", {}, marks=pytest.mark.long),
        pytest.param("host", {"seeds": 2, "seeds_by": "map"}, marks=pytest.mark.long),
        pytest.param("switch", {"seeds": 2, "seeds_by": "vmap"}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_a_gradient_that_is_none_is_that_of_its_layer_and_step(tmp_path, configure, mode, seeds):
    config = configure(poisoned(2, 3) | {"dispatch": mode}, check="finite", **seeds)
    of_seed = " of seed 0" if seeds else ""
    assert told(tmp_path / "run", config) == (
        f"The gradient of step 4{of_seed} is not finite, though its loss is: the backward pass came first to that of "
        "layer 2 (`second`), under poison in step 4."
    )


@pytest.mark.gate
def test_within_a_call_of_several_steps_the_step_is_named(tmp_path, configure):
    config = configure(poisoned(2, 3) | {"dispatch": "switch"}, check="finite", chunk=3)
    assert "The gradient of step 4 is not finite" in told(tmp_path / "run", config)


@pytest.mark.gate
def test_of_an_input_gradient_the_layer_above_is_named_as_well(tmp_path, configure):
    assert told(tmp_path / "run", configure(poisoned(3, 1, dx=True), check="finite")) == (
        "The gradient of step 2 is not finite, though its loss is: the backward pass came first to that of `norm2` of "
        "layer 2 (`second`), under full in step 2, or to the input gradient of layer 3 (`third`), under "
        "poison(dx=True) in step 2 (and 2 more)."
    )


@pytest.mark.gate
def test_statistics_alone_are_blamed_on_the_update_before(tmp_path, configure):
    schedule = {"rules": [{"method": "random", "layers": [2], "steps": {"start": 1, "stop": 2}}]}
    config = configure(schedule, model=f"{__name__}:Forgetful", check="finite")
    assert told(tmp_path / "run", config) == (
        "The statistics of `norm2` are not finite in step 3, though its loss is: they are of what came behind `norm2` "
        "of layer 2 (`second`), under random in step 2, whose update came before it."
    )


@pytest.mark.gate
def test_of_a_loss_the_layer_is_named_that_the_forward_pass_came_to_first(tmp_path, configure):
    config = configure({"name": "schedule1", "method": "zero"}, learning_rate=1e38, check="finite")
    assert re.fullmatch(
        r"The loss of step 2 is (nan|inf), under the methods full, zero of step 1, whose update came before it. The "
        r"forward pass came first to no finite numbers behind `norm1` of layer 1 \(`first`\), under full in step 1.",
        told(tmp_path / "run", config),
    )


@pytest.mark.gate
def test_an_update_that_overflows_is_told_of_its_own_step(tmp_path, configure):
    config = configure({"name": "full"}, learning_rate=1e39, check="finite")
    assert told(tmp_path / "run", config).startswith(
        "The update of step 1, by gradients that were finite, has made weights or moments that are not, of "
    )


@pytest.mark.gate
@pytest.mark.parametrize(
    "train",
    [pytest.param({}, marks=pytest.mark.long), {"chunk": 4}, pytest.param({"seeds": 2}, marks=pytest.mark.long)],
    ids=str,
)
def test_a_run_that_is_checked_learns_the_same_bit_for_bit(tmp_path, configure, train):
    rows = []
    for check in (None, "finite"):
        config = configure(TWO_COLUMNS, epochs=2, check=check, **train)
        with RunFolder.create(tmp_path / str(check)) as folder:
            Run(config, folder, Listener()).train()
        rows.append((tmp_path / str(check) / record.METRICS).read_bytes())
    assert rows[0] == rows[1]


@pytest.mark.gate
def test_a_run_that_has_diverged_can_be_asked_why(tmp_path, configure):
    config = configure(poisoned(2, 3), checkpoint_every=3)
    with RunFolder.create(tmp_path) as folder, pytest.raises(DivergedError, match="names the layer"):
        Run(config, folder, Listener()).train()
    config = config.model_copy(update={"train": config.train.model_copy(update={"check": "finite"})})
    with RunFolder.open(tmp_path) as folder, pytest.raises(DivergedError, match=r"step 4 .* layer 2 \(`second`\)"):
        Run(config, folder, Listener()).train()


@pytest.fixture(name="blame")
def _blame(configure, pocket) -> Blame:
    """Of two seeds and a schedule with another method in each layer."""
    config = configure({"grid": [["random"], ["zero"], ["full"]]}, check="finite", seeds=2)
    work = Workload.of(config)
    assert isinstance(work.schedule, Schedule)
    return Blame(work, [5, 6], EVERYWHERE, Path("run"))


EVERYWHERE = [
    *(Place("gradient", path) for path in ("first", "logits", "norm1", "norm2", "norm3", "second", "third")),
    *(Place("statistics", f"norm{number}") for number in (1, 2, 3)),
    *(Place("state", path) for path in ("first", "second")),
]


@pytest.mark.parametrize(
    ("what", "bad", "expected"),
    [
        ("gradient", ["first"], "to that of layer 1 (`first`), under random in step 8."),
        (
            "gradient",
            ["first", "norm1"],
            "to that of `norm1` of layer 1 (`first`), under random in step 8 (and 1 more).",
        ),
        ("gradient", ["logits"], "to that of `logits`, which is exact."),
        ("gradient", [p.path for p in EVERYWHERE[:7]], "to that of `logits`, which is exact (and 6 more)."),
        ("statistics", ["norm3", "norm2"], "The statistics of `norm2` (and 1 more) are not finite in step 8 of seed 6"),
        ("statistics", ["norm3"], "behind `norm3` of layer 3 (`third`), under full in step 7, whose"),
        ("state", ["second"], "that are not, of layer 2 (`second`), under zero in step 8."),
    ],
)
def test_what_a_pass_comes_to_first_is_named(blame, what, bad, expected):
    flags = np.zeros((2, len(EVERYWHERE)), bool)
    flags[1] = [place.what == what and place.path in bad for place in EVERYWHERE]
    assert blame(7, 0, 1.0, flags, Path("run/checkpoints/step-00000006")) is None
    message = blame(7, 1, 1.0, flags, Path("run/checkpoints/step-00000006"))
    assert expected in message
    assert " of seed 6" in message


def test_before_anything_was_trained_no_method_is_blamed(blame):
    flags = np.array([[place.what == "statistics" for place in EVERYWHERE]] * 2)
    for loss in (1.0, float("nan")):
        message = blame(0, 0, loss, flags, Path("run"))
        assert message.endswith(
            ", before anything was trained: the network, its initial weights or the images are why."
        )
