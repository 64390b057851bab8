"""`approxtrain data`: what it prints and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from approxtrain.data import fetch, shapes
from approxtrain.data.tf_record import framed
from approxtrain.errors import DataError
from approxtrain_cli.data import app
from tests.records import record


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("APPROXTRAIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "60")
    return tmp_path / "data"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_import_tells_the_sum_and_how_to_use_the_images(tmp_path: Path, tiny) -> None:
    result = invoke("import", tiny.folder(tmp_path, tiny.binary), "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "mine: 100 training and 20 test images, sha256 " in result.output
    assert "approxtrain train data.name=mine\n" in result.output


def test_import_into_a_folder_tells_to_name_it(tmp_path: Path, tiny) -> None:
    source = tiny.folder(tmp_path, tiny.binary)
    result = invoke("import", source, "--name", "mine", "--dir", tmp_path / "there")
    assert f"data.name=mine data.dir={tmp_path / 'there'}\n" in result.output


def test_the_way_to_train_is_quoted_for_a_shell(tmp_path: Path, tiny) -> None:
    result = invoke("import", tiny.folder(tmp_path, tiny.binary), "--name", "mine", "--dir", tmp_path / "my images")
    assert f"data.name=mine data.dir='{tmp_path / 'my images'}'\n" in result.output


def test_import_of_other_bytes_without_a_name_is_a_data_error(tmp_path: Path, tiny) -> None:
    result = invoke("import", tiny.folder(tmp_path, tiny.binary))
    assert isinstance(result.exception, DataError)


def test_verify_shows_what_differs_and_ends_with_3(own_folder: Path, tmp_path, tiny) -> None:
    invoke("import", tiny.folder(tmp_path, tiny.binary), "--name", "mine")
    result = invoke("verify", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert result.output.count("as expected") == 7
    file = own_folder / "mine" / "cifar-10-batches-bin" / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    result = invoke("verify", "--name", "mine")
    assert result.exit_code == 3
    (line,) = (line for line in result.output.splitlines() if "expected" in line and "as expected" not in line)
    assert line.startswith("  test_batch.bin sha256: ")
    assert "1 of 6 differ" in result.output


def test_verify_shows_what_a_manifest_says_and_takes_it_for_no_markup(tmp_path, tiny) -> None:
    folder = tiny.folder(tmp_path, tiny.binary)
    sums = {f"data_batch_{number}.bin": "[/]" for number in range(1, 6)} | {"test_batch.bin": "[link=x]y[/link]"}
    (folder / "manifest.json").write_text(json.dumps({"sha256": "", "files": sums}))
    result = invoke("verify", "--name", "mine", "--dir", folder)
    assert result.exit_code == 3, result.output
    assert "expected [/]\n" in result.output
    assert "expected [link=x]y[/link]\n" in result.output


def test_verify_says_where_nothing_is_recorded(tmp_path: Path, tiny) -> None:
    result = invoke("verify", "--name", "mine", "--dir", tiny.folder(tmp_path, tiny.binary))
    assert result.exit_code == 0
    assert "none recorded to compare with" in result.output


def test_verify_draws_the_embedded_images_again() -> None:
    result = invoke("verify", "--name", "shapes")
    assert result.exit_code == 0
    assert f"{shapes.SHA256}, as expected" in result.output


def test_fetch_shows_each_mirror_and_where_the_archive_lies(monkeypatch, own_folder: Path) -> None:
    def download(folder, *, name, say, progress) -> Path:
        assert folder is None
        say("from https://mirror/[1]/cifar-10-binary.tar.gz")
        progress(5, 10)
        return own_folder / "cifar10" / "cifar-10-binary.tar.gz"

    monkeypatch.setattr(fetch, "fetch", download)
    result = invoke("fetch")
    assert result.exit_code == 0, result.output
    assert "from https://mirror/[1]/cifar-10-binary.tar.gz" in result.output
    assert str(own_folder / "cifar10" / "cifar-10-binary.tar.gz") in result.output


def test_the_command_imports_no_jax() -> None:
    program = "import sys, approxtrain_cli.data; print('jax' in sys.modules)"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False", done.stderr


def test_importing_a_folder_of_images_says_that_it_needs_no_import(tmp_path: Path) -> None:
    (tmp_path / "pets/cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "pets/cat/1.png")
    result = invoke("import", tmp_path / "pets", "--name", "mypets")
    assert isinstance(result.exception, DataError)
    assert f"approxtrain train data.dir={tmp_path / 'pets'} data.name=mypets" in str(result.exception)


def test_convert_tells_what_it_has_made_and_how_to_train_on_it(tmp_path: Path) -> None:
    (tmp_path / "tf").mkdir()
    for split, count in (("train", 5), ("validation", 2)):
        content = b"".join(framed(record(number, first_label=1)) for number in range(count))
        (tmp_path / "tf" / f"{split}-00000-of-00001").write_bytes(content)
    result = invoke("convert", tmp_path / "tf", tmp_path / "pets", "--first-label", "1")
    assert result.exit_code == 0, result.output
    assert "train: 5 images\nvalidation: 2 images\n3 classes, in " in result.output
    assert f"approxtrain train data.name=pets data.dir={tmp_path / 'pets'}\n" in result.output
    (tmp_path / "names").write_text("bird\ncat\ndog\nfish\n")
    result = invoke("convert", tmp_path / "tf", tmp_path / "as-they-are", "--classes", tmp_path / "names")
    assert "no image has the label 0; the smallest is 1. Perhaps --first-label 1? Then remove" in result.output
    assert "4 classes, in " in result.output
    assert (tmp_path / "as-they-are/classes.txt").read_text() == "bird\ncat\ndog\nfish\n"
    assert isinstance(invoke("convert", tmp_path / "nowhere", tmp_path / "other").exception, DataError)
    missing = invoke("convert", tmp_path / "tf", tmp_path / "other", "--classes", tmp_path / "nowhere").exception
    assert isinstance(missing, DataError)
