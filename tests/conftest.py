"""Images for tests: the real ones where they are, and tiny ones in both official layouts."""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from approxtrain.data import cifar


@pytest.fixture(autouse=True, scope="module")
def _convolutions_that_the_cache_can_keep(request: pytest.FixtureRequest) -> Iterator[None]:
    """Training runs of tests compute with XLA's convolutions: jax cannot keep a program with a call of oneDNN, and
    would compile the same step again for each test and process. Tests of the kernels, and modules with ONEDNN = True,
    use it.
    """
    if "kernels" in request.path.parts or getattr(request.module, "ONEDNN", False):
        yield
        return
    from approxtrain_kernels import onednn

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPROXTRAIN_ONEDNN", "0")  # for the processes that a test starts
        patch.setattr(onednn, "available", lambda: False)
        yield


@pytest.fixture(scope="session")
def real_cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds cifar-10-batches-bin/: all 60,000 images, lossy, so not the official bytes."""
    script = Path(__file__).resolve().parents[2] / "shared" / "cifar10" / "unpack.py"
    if not script.is_file():
        pytest.skip("no real images: ../shared/cifar10/unpack.py is not there")
    pytest.importorskip("PIL", reason="no real images: unpacking them needs Pillow")
    folder = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class TinyCifar:
    """Six batches of 20 random images each, with members named as in the official archives."""

    binary: dict[str, bytes]
    python: dict[str, bytes]

    @staticmethod
    def folder(root: Path, members: dict[str, bytes]) -> Path:
        """Write the members below `root`; returns the folder of batches."""
        for name, content in members.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return root / next(iter(members)).split("/")[0]

    @staticmethod
    def archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
        """Write a .tar.gz; a TarInfo in place of bytes is put in as it is."""
        with tarfile.open(path, "w:gz") as tar:
            for name, content in members.items():
                if isinstance(content, tarfile.TarInfo):
                    tar.addfile(content)
                else:
                    header = tarfile.TarInfo(name)
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
        return path


@pytest.fixture(scope="session")
def tiny() -> TinyCifar:
    rng = np.random.default_rng(0)
    binary, python = {}, {}
    for batch in cifar.BATCHES:
        labels = rng.permutation(np.arange(20) % 10)
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        records = np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1)
        binary[f"cifar-10-batches-bin/{batch}.bin"] = records.tobytes()
        content = {
            "batch_label": batch,
            "labels": labels.tolist(),
            "data": pixels,
            "filenames": ["data", "labels"] * 10,
        }
        python[f"cifar-10-batches-py/{batch}"] = pickle.dumps(content, protocol=2)
    return TinyCifar(binary, python)


@pytest.fixture
def make_official(monkeypatch: pytest.MonkeyPatch, tiny: TinyCifar) -> Callable[..., None]:
    """Call it to make the tiny batches, and archives that are given by layout, the official ones."""

    def make(binary: Path | None = None, python: Path | None = None) -> None:
        layouts = []
        for layout, members, archive in (
            (cifar.BINARY, tiny.binary, binary),
            (cifar.PYTHON, tiny.python, python),
        ):
            content = archive.read_bytes() if archive else b""
            layouts.append(
                replace(
                    layout,
                    digests=tuple(hashlib.new(layout.algorithm, c).hexdigest() for c in members.values()),
                    batch_bytes=20 * cifar.RECORD if layout.batch_bytes else None,
                    archive_bytes=len(content),
                    archive_sha256=hashlib.sha256(content).hexdigest(),
                )
            )
        monkeypatch.setattr(cifar, "LAYOUTS", tuple(layouts))

    return make
