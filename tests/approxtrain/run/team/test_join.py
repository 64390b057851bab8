"""Who belongs to a team: the options of the command line, and what the environment of a cluster says."""

from __future__ import annotations

import pytest

from approxtrain.errors import ConfigError
from approxtrain.run.team import ALONE
from approxtrain.run.team.join import Place, found, place, set_up_for_failure


def test_the_three_options_belong_together():
    assert place(None, None, None) is None
    assert place("node1:9911", 4, 3) == Place("node1:9911", 4, 3)
    for given in ((None, 2, 0), ("node1:1", None, 0), ("node1:1", 2, None)):
        with pytest.raises(ConfigError, match="left out"):
            place(*given)


def test_all_that_is_wrong_with_them_is_told_at_once():
    with pytest.raises(ConfigError) as told:
        place("node1", 2, 2)
    assert len(told.value.problems) == 2
    assert "HOST:PORT" in told.value.problems[0]
    assert "from 0 to 1" in told.value.problems[1]
    with pytest.raises(ConfigError, match="at least 1"):
        place("node1:1", 0, 0)


def test_what_a_cluster_has_set_is_told_in_words():
    slurm = dict.fromkeys(("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID"), "1")
    assert found({}) == "no variable of SLURM, Open MPI, Kubernetes, Cloud TPU is set"
    assert found(slurm) == "SLURM as it seems, by SLURM_JOB_ID, but without SLURM_LOCALID"
    assert found(slurm | {"SLURM_LOCALID": "0"}).startswith("SLURM: SLURM_JOB_ID=1, ")


def test_a_cpu_does_not_wait_half_an_hour_for_who_is_stuck(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    set_up_for_failure()
    set_up_for_failure()
    import os

    assert os.environ["XLA_FLAGS"] == "--xla_a=1 --xla_cpu_collective_timeout_seconds=600"
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_collective_timeout_seconds=7")
    set_up_for_failure()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_collective_timeout_seconds=7"


def test_who_is_alone_agrees_with_itself():
    value, arrays = {"a": [1, None]}, [object()]
    assert ALONE.is_first
    assert ALONE.agreed(value) is value
    assert ALONE.from_first(arrays) is arrays
