"""What a checkpoint says of its run comes back as it was, or is refused in words, whoever wrote it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import approxtrain
from approxtrain.errors import CheckpointError
from approxtrain.run import archive, checkpoint, divergence, facts
from approxtrain.run.folder import RunFolder
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from tools.soak.samples import FACTS, ROWS

META = json.loads(json.dumps(facts.to_meta(FACTS, ROWS)))
NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def test_facts_and_rows_come_back_from_json_as_they_were():
    assert facts.of_meta(META, Path("run")) == (FACTS, ROWS)


def test_a_checkpoint_of_an_earlier_program_lacks_what_has_a_default():
    known = {name: META[name] for name in ("config", "data", "environment", "trajectory", "images", "rows")}
    found, _ = facts.of_meta(known | {"best": {"step": 3, "accuracy": 0.5}}, Path("run"))
    assert (found.plateau, found.chunk, found.origins, found.best) == (None, None, None, {"step": 3, "accuracy": 0.5})


@given(st.sampled_from([*META, "more"]), NONSENSE)
def test_any_other_value_is_taken_or_refused_in_words(name: str, value: Any):
    refusal = ""
    try:
        again = facts.to_meta(*facts.of_meta(META | {name: value}, Path("run")))
    except CheckpointError as error:
        refusal = str(error)
    if refusal:
        assert name in refusal
        assert "Nothing was changed" in refusal
    else:
        assert facts.to_meta(*facts.of_meta(json.loads(json.dumps(again)), Path("run"))) == again


@pytest.mark.parametrize("name", ["config", "data", "environment", "trajectory", "images", "rows"])
def test_one_that_is_missing_is_named(name: str):
    with pytest.raises(CheckpointError, match=name):
        facts.of_meta({key: value for key, value in META.items() if key != name}, Path("run"))


HARMFUL = {
    "best.step": {"best": {"step": "1", "accuracy": 0.5}},
    "images.image_shape": {"images": META["images"] | {"image_shape": [4, 4]}},
    "config": {"config": {"train": {"epochs": "2"}}},
    "data: .*has no sha256": {"data": {"name": "pictures"}},
    "origins": {"origins": {"model.target": ["/tmp"]}},
    "chunk": {"chunk": 0},
    "rows": {"rows": [1, 2, 3]},
}


@pytest.mark.parametrize("what", HARMFUL)
def test_what_means_harm_is_named(what: str):
    with pytest.raises(CheckpointError, match=what):
        facts.of_meta(META | HARMFUL[what], Path("run"))


@pytest.fixture(scope="module")
def trained(configure, tmp_path_factory):
    path = tmp_path_factory.mktemp("facts") / "run"
    with RunFolder.create(path) as folder:
        Run(configure({"name": "full"}, epochs=1), folder, Listener()).train()
    return path


@pytest.mark.gate
@pytest.mark.parametrize("what", HARMFUL)
def test_what_reads_a_run_refuses_a_checkpoint_that_was_sealed_again(what, trained, configure, tmp_path):
    """Loading it, resuming it and making an archive of it, with exit code 5 in place of a traceback."""
    shutil.copytree(trained, run := tmp_path / "run")
    (run / "summary.json").unlink()
    for place in (run / "checkpoints").iterdir():
        content = json.loads((place / "meta.json").read_text())
        del content["seal"]
        content["meta"] |= copy.deepcopy(HARMFUL[what])
        sealed = {"seal": checkpoint._seal(content), **content}
        (place / "meta.json").write_text(json.dumps(sealed))
    for read in (approxtrain.load_run, archive.of_folder, resume(configure)):
        with pytest.raises(CheckpointError, match=what):
            read(run)


def resume(configure):
    def read(run: Path) -> None:
        with RunFolder.open(run) as folder:
            Run(configure({"name": "full"}, epochs=1), folder, Listener()).train()

    return read


@pytest.mark.parametrize("content", ["[]", "{}", '{"step": "3", "loss": null}', '{"step": 3}', "null", "[" * 9999])
def test_a_note_of_divergence_that_is_none_is_refused_in_words(content: str, tmp_path: Path):
    (tmp_path / divergence.DIVERGED).write_text(content)
    with pytest.raises(approxtrain.errors.ConfigError, match="Remove it"):
        divergence.noted(tmp_path)
