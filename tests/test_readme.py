"""Every command that README shows is run, and every relative link of the documents leads to a file."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from approxtrain.run import archive

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "configs/README.md"]
BLOCKS = [
    block.splitlines()
    for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
]
INSTALLING = {"demo": "make demo", "pip": "python3 -m venv .venv-pip"}
"""The first lines of the blocks that make an environment; they are run whole."""
SINGLE = [line for block in BLOCKS if block[0] not in INSTALLING.values() for line in block if line != "make test"]
SHORT = "train.epochs=1 data.holdout=9000"
"""What makes a run on the drawn images short."""
FILES = ("config.toml", "metrics.jsonl", "timing.jsonl", "summary.json", "curves.png", "tensorboard", "checkpoints")

# python3 is the one that made this environment, whose own folder comes after it
PATH = os.pathsep.join([f"{sys.base_prefix}/bin", f"{sys.prefix}/bin", os.environ["PATH"]])

Shell = Callable[..., str]


def shell(command: str, folder: Path, **variables: str) -> str:
    """The output of a command, run in `folder` as from a terminal that was just opened."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # of the gate that runs this
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env={**environment, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_run(out: str, folder: Path, data: str) -> Path:
    """What a training run printed and wrote in `folder`; → the folder of the run."""
    accuracy = re.search(
        rf"^accuracy  final (\d+\.\d\d)%, best .*, on {re.escape(data)} \((test|holdout)\)$", out, re.M
    )
    curves = re.search(r"^curves    (.+)$", out, re.M)
    assert accuracy, out
    assert curves, out
    assert (folder / curves[1]).read_bytes().startswith(b"\x89PNG")
    run = (folder / curves[1]).parent
    assert {path.name for path in run.iterdir()} >= set(FILES)
    summary = json.loads((run / "summary.json").read_text())
    assert (f"{summary['final_accuracy']:.2%}", summary["data"]["name"]) == (f"{accuracy[1]}%", data)
    return run


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900


def parameter(command: str) -> Any:
    """bench-step and reproduce make steps of whole networks; for the gate tests/cli has small ones of them."""
    whole = command.startswith(("approxtrain bench-step", "approxtrain reproduce"))
    mark = pytest.mark.long if whole else pytest.mark.gate
    return pytest.param(command, marks=mark)


def test_readme_has_the_blocks_that_these_tests_know():
    heads = [block[0] for block in BLOCKS]
    assert {*INSTALLING.values(), "make test"} <= set(heads)
    assert BLOCKS[heads.index("make test")] == ["make test"]
    assert len(set(SINGLE)) == len(SINGLE) > 5


@pytest.mark.parametrize("command", [*map(parameter, SINGLE)])
def test_a_command_of_readme_does_what_readme_says(command, tiny, make_run, tmp_path):
    program, subcommand, *arguments = shlex.split(command)
    assert program == "approxtrain", f"no test knows how to run {command!r}"
    if "FOLDER" in command:
        command = command.replace("FOLDER", str(tiny.folder(tmp_path / "images", tiny.binary)))
        command += " train.batch_size=20"
    elif subcommand == "report":
        archive.write(tmp_path / arguments[0] / "run.json", make_run("cnn2-full"))
    elif subcommand == "train":
        command = f"{command} {SHORT}"
    elif subcommand == "bench-step":
        command = command.replace("--rounds 8", "--rounds 3")  # what it says of itself is checked, not the times
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "cli", ROOT / "kernels")))
    line = shlex.join([sys.executable, "-m", "approxtrain_cli"]) + command.removeprefix("approxtrain")
    out = shell(line, tmp_path, PYTHONPATH=paths)
    match subcommand:
        case "train":
            (data,) = [a.removeprefix("data.name=") for a in arguments if a.startswith("data.name=")] or ["shapes"]
            assert check_run(out, tmp_path, data).parent == tmp_path / "runs"
        case "schedule-show":
            assert re.search(r"largest possible speed-up +\d+\.\d%", out)
            images = [arguments[at + 1] for at, option in enumerate(arguments) if option == "--image"]
            assert all((tmp_path / image).read_bytes().startswith(b"\x89PNG") for image in images)
        case "report":
            assert (tmp_path / arguments[-1] / "report.html").read_text("utf-8").count("<img ") == 3
        case "ls":
            assert all(
                re.search(rf"^{name}\b", out, re.M) for name in ("quickstart", "resnet20", "approx", "schedule1")
            )
        case "data":
            assert all(re.search(rf"^  {name}\b", out, re.M) for name in ("fetch", "import", "verify"))
        case "bench-kernel":
            assert re.search(r"^32→32 16×16 k3 s1 .* (FASTER|SLOWER|SAME|NOISY) *$", out, re.M)
        case "bench-step":
            steps = re.findall(r"^(full|loop|switch|plain|.* with \w+) +\d+\.\d .*[A-Z]", out, re.M)
            assert [steps[0], steps[1], steps[-1]] == ["loop", "switch", "plain"]
            assert re.search(r"^schedule +speed-up", out, re.M)
        case "reproduce":
            assert re.search(r"^expected  6 of 6 runs, about .* on ", out, re.M)
        case _:
            pytest.fail(f"no test knows what {command!r} should do")


def fresh_checkout(folder: Path) -> Path:
    """What git knows, or would add: a clone of the files as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this is no checkout: git does not know which files belong to it")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return fresh_checkout(tmp_path_factory.mktemp("checkout"))


def run_block(kind: str, folder: Path) -> None:
    """Run a block line by line, its training shortened, with a python3 that is this one."""
    (block,) = [block for block in BLOCKS if block[0] == INSTALLING[kind]]
    for line in block:
        short = f"{SHORT} --out run-{kind}"
        if line == "make demo":
            line = f"{line} DEMO_ARGS={shlex.quote(short)}"
        elif "approxtrain train" in line:
            line = f"{line} {short}"
        out = shell(line, folder, PATH=PATH)
    assert check_run(out, folder, "shapes") == folder / f"run-{kind}"


@pytest.mark.install
@pytest.mark.timeout(1200)
def test_make_demo_sets_everything_up_trains_and_shows_accuracy_and_curves(checkout):
    run_block("demo", checkout)


@pytest.mark.install
@pytest.mark.timeout(1200)
def test_the_lines_for_pip_do_the_same(checkout):
    run_block("pip", checkout)
    where = shell(".venv-pip/bin/python -P -c 'import approxtrain; print(approxtrain.__file__)'", checkout)
    assert "site-packages" in where


def links(document: Path) -> list[str]:
    """The targets of a document's links, those in code left out."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_every_relative_link_leads_to_a_file():
    found = {(document, target) for document in DOCUMENTS for target in links(document)}
    relative = {(document, target.partition("#")[0]) for document, target in found if "://" not in target}
    assert (ROOT / "README.md", "docs/method.md") in relative
    assert [(document.name, target) for document, target in relative if not (document.parent / target).exists()] == []
