"""Everything that needs a GPU, in one go: `make gpu-bench`.

    python tools/gpu_bench.py [--minutes 8] [--only STAGE,...] [--data FOLDER --name NAME] [--out DIR] [--dry-run]
    python tools/gpu_bench.py --page --out DIR

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
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "cli"), str(ROOT / "kernels")]

from tools.gpu.stages import Outcome, Stage, run  # noqa: E402
from tools.gpu.summary import sections, summarise  # noqa: E402

GRAPHS = "--xla_gpu_enable_command_buffer=+CONVOLUTION"
SANITIZER = "compute-sanitizer"
SANITIZERS = ("/usr/local/cuda/bin/compute-sanitizer", "/opt/cuda/bin/compute-sanitizer")
"""Where CUDA's tools lie without being on PATH."""


class Commands(NamedTuple):
    """Writes stages: each kind of command once, with JSON in `folder` and `environment` around it."""

    folder: Path
    environment: dict[str, str]

    def measured(self, stage: str, what: str, seconds: float, *more: str, needed: bool = False) -> Stage:
        command = (sys.executable, "tools/gpu_measure.py", stage, "--json", self._json(stage), *more)
        return Stage(stage, what, command, seconds, f"{stage}.json", self.environment, needed)

    def commanded(self, stage: str, what: str, seconds: float, *arguments: str) -> Stage:
        command = (sys.executable, "-m", "approxtrain_cli", *arguments, "--json", self._json(stage))
        return Stage(stage, what, command, seconds, f"{stage}.json", self.environment)

    def sanitized(self, tool: str, seconds: float) -> Stage:
        stage = f"sanitizer-{tool}"
        program = shutil.which(SANITIZER) or next(filter(os.path.exists, SANITIZERS), SANITIZER)
        command = (program, "--tool", tool, "--error-exitcode", "9", sys.executable, "tools/gpu_measure.py")
        # Each array in an allocation of its own, so that reading past its end is seen.
        own = self.environment | {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        what = f"{SANITIZER} {tool} over the small shapes"
        return Stage(stage, what, (*command, "small", "--json", self._json(stage)), seconds, f"{stage}.json", own)

    def table(self, precision: str) -> Stage:  # one each: the command writes its JSON at the end
        arguments = ("bench-kernel", "--shapes", "paper", "--method", "approx", "--rounds", "8", "--dtype", precision)
        return self.commanded(f"table1-{precision}", f"the paper's Table 1 in {precision}", 130, *arguments)

    def throughput(self, stage: str, what: str, flags: str) -> Stage:
        command = (sys.executable, "tools/gpu_measure.py", "throughput", "--json", self._json(stage))
        given = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), flags]))
        own = self.environment | ({"XLA_FLAGS": given} if given else {})
        return Stage(stage, what, command, 130, f"{stage}.json", own)

    def _json(self, stage: str) -> str:
        return str(self.folder / f"{stage}.json")


def stages(folder: Path, data: Path | None, name: str, cache: str) -> list[Stage]:
    """All stages. Programs that one stage has compiled are read back by the others."""
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path[:3], os.environ.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "NO_COLOR": "1",
    }
    of = Commands(folder, environment)
    network = ("bench-step", "resnet20-schedule1-approx", "data.name=shapes", "--rounds", "12")
    found = [
        of.measured("facts", "the device, its limits, plain operations against NumPy", 60, needed=True),
        of.measured("right", "every form of approx against float64; the same bits 20 times", 90),
        *map(of.table, ("tf32", "bfloat16", "float32")),
        of.throughput("throughput", "images a second of resnet20: host, scan, switch, several seeds", ""),
        of.measured("steps", "steps of cnn2, resnet20, vgg19, resnet14 by each method", 150),
        of.measured("forms", "each form of approx at the paper's shapes, for the cost model", 110),
        of.measured("cuts", "the kernel of the gather form, cut in many ways", 60),
    ]
    if data is not None:
        given = ("--data", str(data), "--name", name)
        found.append(of.measured("train", "resnet20, schedule 1, 2 epochs: pallas beside xla", 90, *given))
        found.append(of.measured("drift", "resnet20: how far two roundings of 20 steps are apart", 60, *given))
    found += [of.sanitized("memcheck", 70), of.sanitized("racecheck", 70)]
    found.append(of.throughput("throughput-graph", "the same, convolutions in command buffers", GRAPHS))
    found.append(of.commanded("dispatch", "resnet20, schedule 1: host, switch, loop", 90, *network))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in one go.")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together")
    parser.add_argument("--only", default="", help="some stages, with commas between; facts always runs")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10: without it nothing is trained")
    parser.add_argument("--name", default="cifar10", help="what `data.name` is for it")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--dry-run", action="store_true", help="list the stages")
    parser.add_argument("--page", action="store_true", help="print what the JSON in --out says, and do nothing else")
    options = parser.parse_args()
    folder, data = options.out.resolve(), options.data.resolve() if options.data else None
    if options.page:
        print("\n\n".join(sections(folder)))
        return 0
    with tempfile.TemporaryDirectory() as cache:
        found = stages(folder, data, options.name, cache)
        wanted = {name for name in options.only.split(",") if name}
        if unknown := wanted - {stage.name for stage in found}:
            print(f"error: there is no stage {', '.join(sorted(unknown))}; see --dry-run", file=sys.stderr)
            return 2
        found = [stage for stage in found if not wanted or stage.name in wanted | {"facts"}]
        if options.dry_run:
            for stage in found:
                print(f"{stage.name:<20} at most {stage.seconds:3.0f} s  {stage.what}")
            return 0
        if not _gpu_is_there():
            print("error: no NVIDIA GPU answers here (nvidia-smi -L), and every stage needs one.", file=sys.stderr)
            print("What can be known without one: make gpu-check", file=sys.stderr)
            return 2
        os.chdir(ROOT)
        outcomes = run(found, folder, 60 * options.minutes, _on_start, _on_end)
    (folder / "summary.md").write_text(summarise(folder), encoding="utf-8")
    print((folder / "summary.md").read_text("utf-8"))
    return 0 if all(outcome.status == "ok" for outcome in outcomes) else 1


def _gpu_is_there() -> bool:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60)
    return done.returncode == 0 and "GPU 0" in done.stdout


def _on_start(stage: Stage, limit: float) -> None:
    print(f"{stage.name:<20} {stage.what}; at most {limit:.0f} s", flush=True)


def _on_end(stage: Stage, outcome: Outcome) -> None:
    print(f"{'':<20} {outcome.status}, {outcome.seconds:.0f} s{'; ' if outcome.why else ''}{outcome.why}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
