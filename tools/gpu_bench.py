"""Everything that needs a GPU, in one go: `make gpu-bench`.

    python tools/gpu_bench.py [--minutes 8] [--only STAGE,...] [--data FOLDER --name NAME] [--out DIR] [--dry-run]

Each stage has its own time, JSON and log in results/gpu/; one that fails is recorded, and the others go on. The first
matter most: a limit cuts off the last. Without a GPU: exit code 2, and nothing is done.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "cli"), str(ROOT / "kernels")]

from tools.gpu.stages import Outcome, Stage, run  # noqa: E402

SANITIZER = "compute-sanitizer"
SANITIZERS = ("/usr/local/cuda/bin/compute-sanitizer", "/opt/cuda/bin/compute-sanitizer")
"""Where CUDA's tools lie without being on PATH."""
TESTS = ("-m", "pytest", "-q", "-m", "gpu", "tests/kernels/test_pallas_gpu.py")


def stages(folder: Path, cache: str, drift: tuple[str, ...]) -> list[Stage]:
    """All stages, the most important first. Programs that one has compiled are read back by the others."""
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path[:3], os.environ.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "NO_COLOR": "1",
        "APPROXTRAIN_TEST_OPTIMIZED": "1",  # for the stages that are tests
    }
    # Each array in an allocation of its own, so that reading past its end is seen.
    apart = environment | {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    sanitizer = shutil.which(SANITIZER) or next(filter(os.path.exists, SANITIZERS), SANITIZER)

    def measured(name: str, what: str, seconds: float, *more: str, needed: bool = False) -> Stage:
        command = (sys.executable, "tools/gpu_measure.py", name, "--json", str(folder / f"{name}.json"), *more)
        return Stage(name, what, command, seconds, environment, f"{name}.json", needed)

    def table1(dtype: str) -> Stage:  # one each: the command writes its JSON at the end
        name, options = f"table1-{dtype}", ("--method", "approx", "--rounds", "8", "--dtype", dtype, "--json")
        command = (sys.executable, "-m", "approxtrain_cli", "bench-kernel", *options, str(folder / f"{name}.json"))
        return Stage(name, f"the paper's Table 1 in {dtype}", command, 130, environment, f"{name}.json")

    def sanitized(tool: str) -> Stage:
        command = (sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, *TESTS, "-k", "small")
        return Stage(f"sanitizer-{tool}", f"{SANITIZER} {tool} over the smallest case of each form", command, 70, apart)

    return [
        measured("facts", "the device and its limits", 60, needed=True),
        Stage(
            "right", "every form of approx against float64; the same bits", (sys.executable, *TESTS), 90, environment
        ),
        *map(table1, ("tf32", "bfloat16", "float32")),
        measured("step-resnet20", "a step by each method; in a loop, switched; plain", 110),
        measured("step-resnet20-bfloat16", "the same in bfloat16", 110),
        measured("seeds", "images a second of one ResNet-20, and of several in one step", 110),
        measured("forms", "each form of approx at the paper's shapes, for the cost model", 110),
        measured("drift", "how far two roundings of 20 steps are apart", 60, *drift),
        sanitized("memcheck"),
        sanitized("racecheck"),
        *(measured(f"step-{model}", "as step-resnet20", 110) for model in ("cnn2", "vgg19", "resnet14")),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in one go.")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together")
    parser.add_argument("--only", default="", help="some stages, with commas between; facts always runs")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10, for drift; else it takes synthetic images")
    parser.add_argument("--name", default="cifar10", help="what `data.name` is for it")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--dry-run", action="store_true", help="list the stages")
    options = parser.parse_args()
    folder = options.out.resolve()
    drift = ("--data", str(options.data.resolve()), "--name", options.name) if options.data else ()
    with tempfile.TemporaryDirectory() as cache:
        every = stages(folder, cache, drift)
        wanted = {name for name in options.only.split(",") if name}
        if unknown := wanted - {stage.name for stage in every}:
            print(f"error: there is no stage {', '.join(sorted(unknown))}; see --dry-run", file=sys.stderr)
            return 2
        chosen = [stage for stage in every if not wanted or stage.name in wanted | {"facts"}]
        if options.dry_run:
            for stage in chosen:
                print(f"{stage.name:<23} at most {stage.seconds:3.0f} s  {stage.what}")
            return 0
        if not _gpu_is_there():
            print("error: no NVIDIA GPU answers here (nvidia-smi -L), and every stage needs one.", file=sys.stderr)
            print("What can be known without one: make gpu-check", file=sys.stderr)
            return 2
        os.chdir(ROOT)
        outcomes = run(chosen, folder, 60 * options.minutes, lambda outcome: _report(outcome, folder))
    return 0 if all(outcome.status == "ok" for outcome in outcomes) else 1


def _gpu_is_there() -> bool:
    tool = shutil.which("nvidia-smi")
    done = tool and subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60)
    return bool(done) and done.returncode == 0 and "GPU 0" in done.stdout


def _report(outcome: Outcome, folder: Path) -> None:
    """What became of a stage, with all that it printed."""
    print(
        f"\n== {outcome.name}: {outcome.what}\n   {outcome.status}, {outcome.seconds:.0f} s {outcome.why}", flush=True
    )
    log = folder / f"{outcome.name}.log"
    print(log.read_text("utf-8") if log.exists() else "not measured", flush=True)


if __name__ == "__main__":
    sys.exit(main())
