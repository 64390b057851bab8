"""What an NVIDIA H200 would be given to run: `make gpu-check`, which makes the folder that this needs.

    python tools/gpu_check.py --compiler FOLDER [--json FILE] [--quick]

Prints three tables, writes the JSON, and exits with 1 where a check failed. Nothing is run and nothing is timed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "cli"), str(ROOT / "kernels")]
os.environ["JAX_PLATFORMS"] = "cpu"  # else the plugin looks for a GPU, finds none and fails

from approxtrain import disk  # noqa: E402
from approxtrain.bench.step_bench import StepBench  # noqa: E402
from approxtrain.config import load  # noqa: E402
from approxtrain.run.environment import this_environment  # noqa: E402
from approxtrain_kernels.shapes import PAPER  # noqa: E402
from tools.gpu import check  # noqa: E402
from tools.gpu.target import Target  # noqa: E402

DESCRIPTION = ROOT / "tools" / "gpu" / "h200_target_config.txt"
PACKAGES = ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc")
DTYPES = ("float32", "bfloat16")
PRESETS = ("resnet20-schedule1-approx", "vgg19-schedule1-approx")


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile for an H200 and look at what came out.")
    parser.add_argument("--compiler", type=Path, required=True, help="folder with jax_plugins and nvidia/cu13")
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "gpu" / "check-h200.json")
    parser.add_argument("--quick", action="store_true", help="one shape, one step; no JSON")
    options = parser.parse_args()
    sys.path.append(str(options.compiler))

    start = time.monotonic()
    target, ptxas = Target(DESCRIPTION.read_text()), options.compiler / "nvidia/cu13/bin/ptxas"
    print("compiled for an NVIDIA H200, not run; registers and spills by ptxas", flush=True)
    forms = _forms(target, ptxas, options.quick)
    steps = _steps(target, ptxas, options.quick)
    problems = [problem for report in (*forms, *steps) for problem in report.problems]
    print(f"\n{len(forms)} forms and {len(steps)} steps in {time.monotonic() - start:.0f} s")
    if not options.quick:
        result = {
            "command": "make gpu-check",
            "measured": "compiled, not run",
            "device": "NVIDIA H200, described by tools/gpu/h200_target_config.txt",
            "compiler": {name: version(name) for name in PACKAGES},
            "environment": this_environment(),
            "problems": problems,
            "forms": list(map(check.as_json, forms)),
            "steps": list(map(check.as_json, steps)),
        }
        disk.write_json(options.json, result)
        print(f"written   {options.json.name}")
    for problem in problems:
        print(f"FAIL  {problem}")
    print("all checks passed" if not problems else f"{len(problems)} checks failed")
    return 1 if problems else 0


def _forms(target: Target, ptxas: Path, quick: bool) -> list[check.CompiledForm]:
    print("\napprox, k = 1, batch 128, each form alone (* the one chosen; µs by the model of choose.py, not measured)")
    print(f"{'shape':<20} {'type':<9} {'form':<8} {'model µs':>8}  kernel")
    forms = []
    for form in check.forms(target, ptxas, PAPER[:1] if quick else PAPER, DTYPES):
        forms.append(form)
        what = f"{form.what:<20} {form.dtype:<9} {form.plan.form + '*' * form.chosen:<8} {form.plan.seconds * 1e6:8.1f}"
        for number, kernel in enumerate(form.kernels):
            print(f"{what if not number else '':<48}  {kernel}")
        if not form.kernels:
            print(f"{what}  {form.error or 'none of ours'}", flush=True)
    return forms


def _steps(target: Target, ptxas: Path, quick: bool) -> list[check.CompiledStep]:
    steps = []
    presets = [(name, dtype) for name in PRESETS for dtype in DTYPES]
    for name, precision in presets[:1] if quick else presets:
        bench = StepBench(load(name, ["data.name=shapes", f"train.precision={precision}"]))
        for step in check.steps(target, ptxas, name, bench):
            steps.append(step)
            convolutions = {kind: count for kind, count in step.convolutions.items() if count}
            print(f"\na training step of {name}, {precision}, column {step.column + 1}")
            print(f"  cuDNN convolutions  {_counted(convolutions)}")
            print(f"  kernels of ours     {_counted(step.calls)}")
            print(f"  transposes before   {_listed(step.before)}")
            print(f"  transposes after    {_listed(step.after)}")
            print(f"  launches            {_counted(step.launched)}")
            for layer in step.layers:
                if layer.why:
                    print(f"  {layer.path:<20} {layer.form:<7} {layer.why}", flush=True)
    return steps


def _listed(names: dict[str, list[str]]) -> str:
    return ", ".join(itertools.chain(*names.values())) or "none"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


if __name__ == "__main__":
    sys.exit(main())
