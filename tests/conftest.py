"""Images for tests: the real ones where they are, and tiny ones in both official layouts."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import platform
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from approxtrain.config import plain
from approxtrain.data import cifar, cifar_layouts
from approxtrain.paper import experiments
from approxtrain.run import curves
from approxtrain.run.archive import Archive, identity

ROOT = Path(__file__).resolve().parents[1]


def _compile_soon_and_once() -> None:
    """Have XLA compile without optimising, and keep its programs for the next run of the tests.

    Compiling takes most of the suite's time, running next to nothing. jax and XLA look at these variables when they
    start, and the processes that tests start inherit them. `APPROXTRAIN_TEST_OPTIMIZED=1` asks for programs as a user
    gets them (`make test-all`).
    """
    optimized = os.environ.get("APPROXTRAIN_TEST_OPTIMIZED") == "1"
    if not optimized:
        given = os.environ.get("XLA_FLAGS", "").split()
        names = {flag.split("=")[0] for flag in given}
        os.environ["XLA_FLAGS"] = " ".join([*given, *(f for f in QUICK_TO_COMPILE if f.split("=")[0] not in names)])
    about = Path("/proc/cpuinfo")  # a program for one processor may stop another
    abilities = [line for line in about.read_text().splitlines() if line.startswith("flags")] if about.exists() else []
    kind = hashlib.sha256("".join([platform.machine(), *abilities[:1]]).encode()).hexdigest()[:8]
    folder = ROOT / ".pytest_cache" / f"programs-jaxlib-{version('jaxlib')}-{kind}{'-optimized' if optimized else ''}"
    if not optimized or "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


QUICK_TO_COMPILE = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
"""Each core has tests of its own, so that one program is not compiled in parts side by side."""
if version("jaxlib").startswith("0.10."):  # a later one cannot do without, and ends at a flag that it does not know
    QUICK_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")  # they take half of the time of compiling

_compile_soon_and_once()
# Tracing makes many small objects that live; looking for cycles among them took a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)

LONGEST = (
    "test_readme.py",
    "test_resume.py",
    "test_own_images.py",
    "test_process.py",
    "test_train_output.py",
    "test_reproduce.py",
    "test_gpu_bench.py",
)
"""Files that take minutes: they come first, so that at the end no core waits for one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True, scope="module")
def _convolutions_that_compile_in_no_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """Training runs of tests compute with XLA's convolutions: they are of many small shapes, for each of which code of
    our own is compiled in every process. Tests of the kernels, modules with NATIVE = True, and `make test-all` compute
    with that.
    """
    optimized = os.environ.get("APPROXTRAIN_TEST_OPTIMIZED") == "1"
    if optimized or "kernels" in request.path.parts or getattr(request.module, "NATIVE", False):
        yield
        return
    from approxtrain_kernels import native

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPROXTRAIN_NATIVE", "0")  # for the processes that a test starts
        patch.setattr(native, "available", lambda: False)
        yield


@pytest.fixture(autouse=True, scope="session")
def draw_curves() -> Iterator[Callable[[Path], Path]]:
    """Training runs of tests in this process draw no curves, for that takes longer than the training; → what draws."""
    draw = curves.plot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plot", lambda folder: folder / curves.CURVES)
        yield draw


@pytest.fixture
def drawn_curves(draw_curves: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw their curves, as they do for a user."""
    monkeypatch.setattr(curves, "plot", draw_curves)


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
    for batch in cifar_layouts.BATCHES:
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
            (cifar_layouts.BINARY, tiny.binary, binary),
            (cifar_layouts.PYTHON, tiny.python, python),
        ):
            content = archive.read_bytes() if archive else b""
            layouts.append(
                replace(
                    layout,
                    digests=tuple(hashlib.new(layout.algorithm, c).hexdigest() for c in members.values()),
                    batch_bytes=(20 * layout.record,) * 6 if layout.batch_bytes else None,
                    archive_bytes=len(content),
                    archive_sha256=hashlib.sha256(content).hexdigest(),
                )
            )
        monkeypatch.setattr(cifar, "LAYOUTS", tuple(layouts))

    return make


PLACE = {
    "device": "cpu",
    "device_platform": "cpu",
    "device_count": 1,
    "processor": "AMD EPYC",
    "cpu_count": 2,
    "python": "3.11.7",
    "versions": {"approxtrain": "0.1.0", "jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8"},
    "xla_flags": "",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
}
"""Where a made run ran."""


STEPS = 390
"""An epoch's, of a made run."""


def _made_epoch(epoch: int, epochs: int, best: float, final: float, seed: int, step_ms: float) -> dict:
    share = final if epoch == epochs else best * (1 - 0.6 * (1 - min(1, epoch / max(1, epochs - 1))) ** 2)
    return {
        "epoch": epoch,
        "step": STEPS * epoch,
        "train_loss": 2.3 / epoch**0.5 + 0.02 * seed,
        "train_accuracy": 0.98 * share,
        "learning_rate": 0.001 * 0.9**epoch,
        "validation_loss": 2.2 / epoch**0.5,
        "validation_accuracy": share,
        "seconds": STEPS * step_ms / 1e3,
        "steps": STEPS,
        "images_per_second": 128e3 / step_ms,
    }


def _made_summary(epochs: int, best: float, final: float, step_ms: float) -> dict:
    return {
        "final_accuracy": final,
        "best_accuracy": max(best, final),
        "best_epoch": epochs - 1,
        "final_train_loss": 0.5,
        "step_ms": {"median": step_ms, "q1": 0.98 * step_ms, "q3": 1.02 * step_ms, "n": STEPS * epochs - 1},
        "compile_seconds": 5.0,
    }


def made_run(
    name: str,
    seed: int = 0,
    *,
    best: float = 0.9,
    final: float | None = None,
    epochs: int = 8,
    done: int | None = None,
    data: str = "cifar10-jpeg75",
    message: str = "",
    step_ms: float = 100.0,
    overrides: tuple[str, ...] = (),
    place: dict | None = None,
) -> Archive:
    """A run of the row `name` (`experiments.rows`) that nobody trained: it rises to `best` in its last epoch but one,
    and ends with `final`. With a `message` it diverged or was stopped, after `done` epochs."""
    row = next(row for row in experiments.rows() if row.name == name)
    settings = [
        f"train.epochs={epochs}",
        f"train.seed={seed}",
        "train.validate_every=1",
        f"data.name={data}",
        *overrides,
    ]
    config = row.config(settings)
    images = {"name": data, "sha256": hashlib.sha256(data.encode()).hexdigest(), "validation": "test"}
    status = "finished" if not message else "diverged" if message.startswith("diverged") else "unfinished"
    final = best if final is None else final
    last = epochs if done is None else done
    return Archive(
        name=f"{name}-s{seed}",
        status=status,
        message=message,
        identity=identity(config, images),
        trajectory=1,
        config=plain(config),
        data=images,
        epochs=[_made_epoch(epoch, epochs, best, final, seed, step_ms) for epoch in range(1, last + 1)],
        summary=_made_summary(epochs, best, final, step_ms) if status == "finished" else {},
        environment=PLACE if place is None else place,
        probes=[],
    )


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Archive]:
    """`make_run("cnn2-zero", seed=1, best=0.7)`: an archive that no training made; the arguments of `made_run`."""
    return made_run
