"""Mirrors to download from, and what they have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.approxtrain.data.mirrors import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def archive(tmp_path: Path, tiny, make_official) -> bytes:
    path = tiny.archive(tmp_path / "official.tar.gz", tiny.binary)
    make_official(binary=path)
    return path.read_bytes()
