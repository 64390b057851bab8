"""What a checkpoint gives back of a run besides its arrays and rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from approxtrain.run import record
from approxtrain.run.environment import BITS_DEPEND_ON
from approxtrain.run.folder import RunFolder
from approxtrain.training import saving
from approxtrain.training.events import Listener


class State(NamedTuple):
    step: np.ndarray


def test_a_run_goes_on_with_the_steps_a_call_that_it_decided_on(tmp_path: Path) -> None:
    images = {"name": "pictures", "sha256": "0" * 64}
    begun = saving.Facts({"train": {"epochs": 2}}, images, dict.fromkeys(BITS_DEPEND_ON, ""), trajectory=1, images={})
    with RunFolder.create(tmp_path / "run") as folder, record.Record(folder.path) as rows:
        saving.save(folder, State(np.int32(3)), begun._replace(chunk=8), rows)
        state, facts, written = saving.restore(folder, State(np.int32(0)), begun, Listener())
    assert (int(state.step), facts, written and written.step) == (3, begun._replace(chunk=8), 3)
