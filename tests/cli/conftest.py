"""The program as a user runs it: in this process, or in another one, from an empty folder."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from approxtrain import models
from approxtrain.models import Model
from approxtrain_cli import main

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "cli", ROOT / "kernels")))
FORCING = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")  # what makes rich take anything for a terminal
Run = Callable[..., subprocess.CompletedProcess[str]]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def call() -> Callable[..., Ended]:
    """`call("ls", "models", COLUMNS="60")`: the program in this process; its stdout is no terminal."""

    def run(*arguments: object, **environment: str) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["approxtrain", *map(str, arguments)])
            for name in FORCING:
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main.main()
        return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start("train", stdout=…)`: the program in the background; what still runs when the test ends is killed."""
    started = []
    environment = {name: value for name, value in os.environ.items() if name not in FORCING}

    def run(*arguments: object, code: str = "main()", variables: dict[str, str] | None = None, **popen):
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; from approxtrain_cli.main import main; {code}", *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": PATHS, **(variables or {})},
            text=True,
            **popen,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def two_layers() -> Model:
    """The smallest network with something to choose from."""
    return Model("two-layers", "two convolutions", "tests.networks:Tiny")


@pytest.fixture
def program(tmp_path) -> Run:
    """`program("ls", PYTHONIOENCODING="ascii")`: the program as a process of its own, which takes half a second."""

    def run(*arguments: str, code: str = "main()", stdout: int = subprocess.PIPE, **environment: str):
        return subprocess.run(
            [sys.executable, "-c", f"import sys; from approxtrain_cli.main import main; {code}", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PATHS, **environment},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def images(tiny, tmp_path_factory) -> list[str]:
    """Overrides: 100 images to train on, five steps an epoch."""
    folder = tiny.folder(tmp_path_factory.mktemp("images"), tiny.binary)
    return [f"data.dir={folder}", "data.name=mine", "train.batch_size=20", "train.validate_every=1"]


@pytest.fixture
def small(monkeypatch, two_layers) -> None:
    """The one network that there is for the length of a test."""
    monkeypatch.setattr(models, "get", lambda name: two_layers)
