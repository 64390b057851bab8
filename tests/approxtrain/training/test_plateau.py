"""Exact after a plateau: from the step where accuracy has stood still, and the same after a resume."""

from __future__ import annotations

import json

import pytest

from approxtrain.run import record
from approxtrain.run.folder import RunFolder
from approxtrain.schedule import Schedule, ScheduleConfig
from approxtrain.training import loop
from approxtrain.training.evaluate import Evaluation
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from tools.soak.samples import FACTS

RULES = {"rules": [{"method": "zero", "layers": [2], "steps": {"every": 2}}]}
ACCURACIES = [0.2, 0.4, 0.4, 0.3, 0.5, 0.5]  # after each epoch; two in a row without a better one after the fourth
STEPS = 6  # an epoch


class Ended(Exception):
    """As a kill would."""


class Kill(Listener):
    def __init__(self, after: int | None = None) -> None:
        self.after, self.warnings = after, []

    def step(self, step, losses):
        if step == self.after:
            raise Ended

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def planted(monkeypatch):
    """Validations that come out as ACCURACIES, whatever the network does."""

    class Planted:
        def __init__(self, task, images) -> None:
            pass

        def __call__(self, state):
            return [Evaluation(1.0, ACCURACIES[int(state.step) // STEPS - 1])]

    monkeypatch.setattr(loop, "Evaluator", Planted)


def rows(path) -> list[dict]:
    return [json.loads(line) for line in (path / record.METRICS).read_text().splitlines()]


def trained(config, path, kills=()) -> tuple[dict, list[str]]:
    for after in kills:
        with RunFolder.open(path) if path.exists() else RunFolder.create(path) as folder, pytest.raises(Ended):
            Run(config, folder, Kill(after)).train()
    listener = Kill()
    with RunFolder.open(path) if path.exists() else RunFolder.create(path) as folder:
        return Run(config, folder, listener).train(), listener.warnings


@pytest.mark.gate
@pytest.mark.parametrize("dispatch", [pytest.param("host", marks=pytest.mark.long), "switch"])
def test_a_run_is_exact_from_its_plateau_on_and_as_one_that_knew_it_before(configure, planted, tmp_path, dispatch):
    train = {"epochs": len(ACCURACIES), "validate_every": 1}
    found = configure({**RULES, "until_plateau": 2, "dispatch": dispatch}, **train)
    known = configure({**RULES, "until_epoch": 4, "dispatch": dispatch}, **train)
    summary, warnings = trained(found, tmp_path / "found")
    assert summary["plateau"] == 4 * STEPS
    assert warnings == ["2 validations brought no better accuracy: from step 24 on all is exact."]
    trained(known, tmp_path / "known")
    if dispatch == "host":
        assert rows(tmp_path / "found") == rows(tmp_path / "known")
    else:  # by another program than the branch
        ours, theirs = ([row["loss"] for row in rows(tmp_path / name)] for name in ("found", "known"))
        assert ours == pytest.approx(theirs, rel=1e-5)
    summary, _ = trained(found, tmp_path / "killed", kills=[3, 4 * STEPS + 2, 5 * STEPS + 1])
    assert rows(tmp_path / "killed") == rows(tmp_path / "found")
    assert summary["plateau"] == 4 * STEPS


def test_a_plateau_is_so_many_validations_without_a_better_one_and_is_found_once():
    facts = FACTS._replace(best=None)
    assert not facts.on_a_plateau(6, 1, 6)  # nothing was validated
    facts = facts.after_validation(6, 0.5, 1.0)
    assert [facts.on_a_plateau(step, 2, 6) for step in (6, 12, 18, 24)] == [False, False, True, True]
    assert not facts.on_a_plateau(18, None, 6)
    assert not facts._replace(plateau=18).on_a_plateau(24, 2, 6)


@pytest.mark.parametrize("step", [0, 3, 10, 25])
def test_a_schedule_that_is_exact_from_a_step_on_is_the_same_before_it(pocket, step):
    sizes = [{"size": 4, "epochs": {"from": 2, "to": 2}}]
    config = ScheduleConfig.model_validate({**RULES, "image_sizes": sizes})
    whole = Schedule.from_config(config, pocket.layers, 10)
    cut = whole.exact_from(step)
    for each in range(40):
        expected = whole.column(each) if each < step else (whole.cells[0],) * 3
        assert cut.column(each) == expected
        assert cut.column_seen[cut.index(each)].size == (4 if 10 <= each < 20 else None)
