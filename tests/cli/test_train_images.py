"""`approxtrain train`: how often it reads the images."""

from __future__ import annotations

import pytest

from approxtrain.data import cifar


@pytest.mark.parametrize("more", [["--dry-run"], ["--out", "run"]], ids=lambda more: more[0])
def test_an_archive_of_images_is_read_once(more, call, small, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = tiny.archive(tmp_path / "mine.tar.gz", tiny.binary)
    read, reads = cifar.read, []
    monkeypatch.setattr(cifar, "read", lambda path, *more: (reads.append(path), read(path, *more))[1])
    own = [f"data.dir={archive}", "data.name=mine", "train.batch_size=20", "train.epochs=1"]
    ended = call("train", "quickstart", *own, *more)
    assert ended.code == 0, ended.err
    assert reads == [archive]
