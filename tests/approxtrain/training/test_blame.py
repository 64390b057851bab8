"""What a run that diverges says is the reason."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from approxtrain.errors import DivergedError
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run


class NoNumber(nnx.Module):
    """A network that divides by zero; of `weights`, its weights are no numbers from the start."""

    def __init__(self, classes: int, *, weights: bool = False, rngs: nnx.Rngs) -> None:
        self.bias = nnx.Param(jnp.full(classes, jnp.nan if weights else 1.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x.mean((1, 2, 3)) * 0)[:, None] / 0 + self.bias


@pytest.mark.gate
def test_the_method_whose_update_came_before_is_blamed_and_not_that_of_the_step_that_shows_it(tmp_path, configure):
    rule = {"method": "approx", "params": {"scale": 1e300}, "steps": {"start": 1, "stop": 2}}
    config = configure({"rules": [rule]}, checkpoint_every=1000, epochs=1)
    told = r"The loss of step 3 is nan, under the methods approx\(scale=1e\+300\) of step 2, whose update came before"
    with RunFolder.create(tmp_path) as folder, pytest.raises(DivergedError, match=told) as error:
        Run(config, folder, Listener()).train()
    assert f"stays in {tmp_path / 'checkpoints'}" in str(error.value)
    assert (tmp_path / "checkpoints").is_dir()


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (
            False,
            "The loss of step 1 is nan, before anything was trained: the network, its initial weights or the images",
        ),
        (True, "`params/bias` is not finite before the first step: the network makes it so"),
    ],
    ids=["what it computes", "its weights"],
)
def test_a_network_that_gives_no_number_from_the_start_is_blamed_itself(tmp_path, configure, weights, told):
    config = configure({"name": "full"}, model=f"{__name__}:NoNumber", epochs=1)
    config = config.model_copy(update={"model": config.model.model_copy(update={"arguments": {"weights": weights}})})
    with RunFolder.create(tmp_path) as folder, pytest.raises(DivergedError, match=told):
        Run(config, folder, Listener()).train()
