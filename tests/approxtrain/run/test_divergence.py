"""What is noted of a run that diverged, and when it is forgotten."""

from __future__ import annotations

from pathlib import Path

from approxtrain.errors import DivergedError
from approxtrain.run import divergence


def test_it_is_forgotten_when_the_step_that_diverged_is_finished_and_not_before_it(tmp_path: Path) -> None:
    divergence.note(tmp_path, DivergedError("The loss is nan.", step=3, loss=float("nan")))
    divergence.forget(tmp_path, 2)
    assert divergence.noted(tmp_path) == {"step": 3, "loss": "nan", "message": "The loss is nan."}
    divergence.forget(tmp_path, 3)
    assert divergence.noted(tmp_path) is None
