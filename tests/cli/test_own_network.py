"""A network of a user's own, in a file beside the command that is run."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from approxtrain.models import catalog

FLAT = """
from flax import nnx

class Flat(nnx.Module):
    def __init__(self, classes, *, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.logits = nnx.Linear(32 * 32 * 4, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv(x))
        return self.logits(x.reshape(x.shape[0], -1))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, in which modules may be written; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    importlib.invalidate_caches()


def folder_of(place: Path, side: int, mode: str = "RGB", classes: int = 2) -> str:
    """Overrides that train on 8 pictures a class, and validate on as many."""
    draw = np.random.default_rng(0)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    for split in ("train", "val"):
        for label in range(classes):
            (folder := place / f"pets{side}{mode}" / split / f"pet{label}").mkdir(parents=True)
            for number in range(8):
                pixels = draw.integers(0, 100, shape, dtype=np.uint8) + np.uint8(100 * label)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return f"data.dir=pets{side}{mode}"


def test_schedule_show_traces_the_network_for_the_images_of_the_configuration(place, call):
    (place / "flats.py").write_text(FLAT)
    own = ("schedule-show", "quickstart", "model.target=flats:Flat", "train.batch_size=4", "--json")
    shown = [
        call(*own, "data.image_size=64"),  # of a set that is drawn
        call(*own, folder_of(place, 64), "data.name=pets"),
        call(*own, folder_of(place, 40), "data.name=pets", "data.image_size=64"),
        call(*own, "data.name=cifar10", "data.image_size=64", f"data.dir={place / 'none'}"),
    ]
    np.savez(place / "pets.npz", x_train=np.zeros((9, 64, 64, 3), np.uint8), y_train=np.arange(9) % 2)
    shown.append(call(*own, "data.dir=pets.npz", "data.name=arrays"))
    for ended in shown:
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["layers"][0]["input"] == [64, 64, 3]
    other = call(*own)
    assert other.code == 2
    assert "flats:Flat cannot be called on an image of 32×32×3: " in other.err
    assert "(flats.py, line 11)" in other.err
    presets = call("schedule-show", "cnn2-approx", "--json", f"data.dir={place / 'none'}")
    assert json.loads(presets.out)["layers"][0]["input"] == [32, 32, 3]


def test_gray_pictures_for_a_network_of_three_channels_name_the_key(place, call):
    (place / "flats.py").write_text(FLAT)
    gray = [folder_of(place, 64, "L"), "data.name=gray", "train.batch_size=4"]
    ended = call("train", "quickstart", "model.target=flats:Flat", *gray, "--dry-run")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert "data.channels=3" in ended.err
    assert call("train", "quickstart", "model.target=flats:Flat", *gray, "data.channels=3", "--dry-run").code == 0


PLAIN = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, classes, *, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), strides=4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.logits = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        return self.logits(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))
"""
TRAIN = ("train", "quickstart", "model.target=edited:Net", "data.name=pets", "train.batch_size=8")
TRAIN += ("schedule={ name = 'full' }", "data.image_size=8", "train.validate_every=1", "train.trackers=[]")
CHANGED = "he source of edited has changed since"


@pytest.fixture
def write(place, monkeypatch):
    """`write(text)`: the source of the network, as another process would find it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, folder: Path = place) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "edited.py").write_text(text)
        sys.modules.pop("edited", None)
        catalog._TRACED.clear()
        importlib.invalidate_caches()

    return write


@pytest.mark.gate
def test_an_edit_of_the_network_is_told_wherever_its_run_is_used(place, call, write):
    write(PLAIN)
    ended = call(*TRAIN, folder_of(place, 16), "train.epochs=1", "--out", "run")
    assert ended.code == 0, ended.err
    uses = [("evaluate", "run"), ("predict", "run", "pets16RGB/val/pet0/0.png"), ("export", "run")]
    assert [call(*use)[::2] for use in uses] == [(0, "")] * 3
    write(PLAIN.replace("nnx.relu", "nnx.gelu"))
    for use in uses:
        ended = call(*use)
        assert (ended.code, CHANGED in ended.err) == (0, True), use
    resumed = call("train", "--resume", "run", "train.epochs=2")
    assert resumed.code == 0, resumed.err
    assert f"warning: T{CHANGED} the run began: it goes on, but not as the same run." in resumed.out
    assert call("evaluate", "run", "--checkpoint", "last").err == ""  # it is of the source that is there now
    block = PLAIN.replace(
        "        self.norm", "        self.b5 = nnx.Conv(4, 4, (3, 3), rngs=rngs)\n        self.norm", 1
    )
    write(
        block.replace("self.conv(x)", "self.b5(self.conv(x))").replace("self.norm(", "(").replace("self.norm =", "_ =")
    )
    for use in uses:
        ended = call(*use)
        assert (ended.code, "Traceback" in ended.err) == (5, False)
        assert "is of another network than edited:Net makes now: b5/bias is absent there, and [4] in the" in ended.err
        assert "norm/bias is [4] there, and absent in the network; and 3 more." in ended.err


@pytest.mark.gate
def test_a_run_works_from_any_folder(place, call, write, monkeypatch):
    write(PLAIN, place / "inner")
    pictures = folder_of(place, 16)
    monkeypatch.chdir(place / "inner")
    assert call(*TRAIN, pictures.replace("=", "=../"), "train.epochs=1", "--out", "run").code == 0
    for folder in (place / "inner", ""):  # as in another process, whose working directory is another one
        sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
    write(PLAIN, place / "inner")
    monkeypatch.chdir(place)
    ended = call("predict", "inner/run", "pets16RGB/val/pet0/0.png")
    assert (ended.code, ended.err) == (0, "")
    sys.path.remove(str(place / "inner"))
    write(PLAIN, place / "inner")
    ended = call("train", "inner/run/config.toml", pictures, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    sys.path.remove(str(place / "inner"))
    write(PLAIN, place / "inner")
    assert call("train", "--resume", "inner/run", "train.epochs=2").code == 0
    sys.path.remove(str(place / "inner"))
    write(PLAIN, place / "inner")
    (place / "inner/edited.py").unlink()
    ended = call("predict", "inner/run", "pets16RGB/val/pet0/0.png")
    assert (ended.code, "PYTHONPATH" in ended.err) == (2, True)


def test_a_network_without_convolutions_is_told_that_a_schedule_has_nothing_to_reach(call, tmp_path):
    said = "no convolution that a schedule can reach: every gradient is exact"
    linear = ("quickstart", "model.target=tests.networks:Linear", "schedule={ name = 'full' }")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown, as_json = call("schedule-show", *linear), call("schedule-show", *linear, "--json")
        picture = call("schedule-show", *linear, "--image", tmp_path / "none.png")
        limits = ("data.limit=64", "train.epochs=1", "train.batch_size=32", "train.trackers=[]")
        trained = call("train", *linear, *limits, "--out", tmp_path / "run")
    assert (shown.code, said in shown.out) == (0, True)
    scheduled = call("schedule-show", *linear[:2], "schedule={ name = 'schedule1' }")
    assert (scheduled.code, "The model has no convolution that a schedule can" in scheduled.err) == (2, True)
    assert json.loads(as_json.out)["run_cost"]["largest_speed_up"] == 0
    assert (picture.code, said in picture.err) == (2, True)
    assert trained.code == 0, trained.err
    assert "schedule  full: it has nothing to reach" in trained.out


def test_what_stays_exact_is_listed_with_its_reason(call):
    every = ("quickstart", "model.target=tests.networks:Every", "schedule={ name = 'full' }")
    for ended in (call("schedule-show", *every), call("train", *every, "--dry-run")):
        assert ended.code == 0, ended.err
        assert "exact whatever the schedule: " in ended.out
        assert all(
            f in ended.out for f in ("grouped (in 4 groups)", "dilated (dilated)", "up (a transposed convolution)")
        )
