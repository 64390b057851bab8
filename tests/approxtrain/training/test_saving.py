"""What a checkpoint gives back of a run besides its arrays and rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from approxtrain.run import curves, record, summary
from approxtrain.run.environment import BITS_DEPEND_ON
from approxtrain.run.facts import Best
from approxtrain.run.folder import RunFolder
from approxtrain.run.team import ALONE
from approxtrain.training import saving
from approxtrain.training.events import Listener
from tools.soak.samples import FACTS


class State(NamedTuple):
    step: np.ndarray


def test_a_run_goes_on_with_the_steps_a_call_that_it_decided_on(tmp_path: Path) -> None:
    begun = FACTS._replace(environment=dict.fromkeys(BITS_DEPEND_ON, ""), chunk=None, best=None, origins=None)
    with RunFolder.create(tmp_path / "run") as folder, record.Record(folder.path) as rows:
        saving.save(folder, State(np.int32(3)), begun._replace(chunk=8), rows)
        state, facts, written = saving.restore(ALONE, folder, State(np.int32(0)), begun, Listener())
    assert (int(state.step), facts, written and written.step) == (3, begun._replace(chunk=8), 3)


def test_of_equal_accuracies_the_one_with_less_loss_is_the_best_for_checkpoint_summary_and_curves():
    nothing = math.nan
    validations = [(1, 0.5, 2.0), (2, 0.7, nothing), (3, 0.7, 1.5), (4, 0.7, 0.9), (5, 0.7, 0.9), (6, 0.6, 0.1)]
    for first in range(5):
        facts = FACTS._replace(best=None)
        rows: list[dict] = [{"kind": "train", "loss": 1.0}]
        for epoch, accuracy, loss in validations[first:]:
            facts = facts.after_validation(10 * epoch, accuracy, loss)
            json.dumps(facts.best, allow_nan=False)
            said = "NaN" if math.isnan(loss) else loss
            rows.append({"kind": "validation", "epoch": epoch, "accuracy": accuracy, "loss": said})
        best = max(4, first + 1)
        assert facts.best == {"step": 10 * best, "accuracy": 0.7, "loss": 0.9}
        assert summary.outcome(rows, [0])["by_seed"][0]["best_epoch"] == best
        columns = zip(*validations[first:], strict=True)
        named = dict(zip(("epoch", "accuracy", "loss"), map(list, columns), strict=True))
        assert curves._best([named]).endswith(f"(epoch {best})")


def test_of_a_checkpoint_of_an_earlier_program_the_first_of_equal_accuracies_stays():
    known: Best = {"step": 10, "accuracy": 0.7}
    facts = FACTS._replace(best=known)
    assert facts.after_validation(20, 0.7, 0.1).best == known
