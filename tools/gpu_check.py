"""What an NVIDIA H200 would be given to run: `make gpu-check`, which makes the folder that this needs.

    python tools/gpu_check.py --compiler FOLDER [--json FILE] [--quick]

Prints three tables, writes the JSON, and exits with 1 where a check failed. Nothing is run and nothing is timed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.gpu.check import Form, Step

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTION = ROOT / "tools" / "gpu" / "h200_target_config.txt"
DTYPES = ("float32", "bfloat16")
STEPS = (
    ("resnet20-schedule1-approx", "float32"),
    ("resnet20-schedule1-approx", "bfloat16"),
    ("vgg19-schedule1-approx", "float32"),
    ("vgg19-schedule1-approx", "bfloat16"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile for an H200 and look at what came out.")
    parser.add_argument("--compiler", type=Path, required=True, help="folder with jax_plugins and nvidia/cu13")
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "gpu" / "check-h200.json")
    parser.add_argument("--quick", action="store_true", help="one shape, one step; no JSON")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"  # else the plugin looks for a GPU, finds none and fails
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    sys.path.append(str(options.compiler))

    from tools.gpu.target import Target

    start = time.monotonic()
    target, ptxas = Target(DESCRIPTION.read_text()), options.compiler / "nvidia/cu13/bin/ptxas"
    print("compiled for an NVIDIA H200, not run; registers and spills by ptxas", flush=True)
    forms = _forms(target, ptxas, options.quick)
    steps = _steps(target, ptxas, options.quick)
    problems = [problem for report in (*forms, *steps) for problem in report.problems]
    print(f"\n{len(forms)} forms and {len(steps)} steps in {time.monotonic() - start:.0f} s")
    if not options.quick:
        _write(options.json, forms, steps, problems)
        print(f"written   {options.json.name}")
    for problem in problems:
        print(f"FAIL  {problem}")
    print("all checks passed" if not problems else f"{len(problems)} checks failed")
    return 1 if problems else 0


def _forms(target: Any, ptxas: Path, quick: bool) -> list[Form]:
    from approxtrain_kernels.shapes import PAPER
    from tools.gpu import check

    print("\napprox, k = 1, batch 128, each form alone (* the one chosen; µs by the model of choose.py, not measured)")
    print(f"{'shape':<20} {'type':<9} {'form':<8} {'model µs':>8}  kernel")
    done = []
    for form in check.forms(target, ptxas, PAPER[:1] if quick else PAPER, DTYPES):
        done.append(form)
        what = f"{form.what:<20} {form.dtype:<9} {form.plan.form + '*' * form.chosen:<8} {form.plan.seconds * 1e6:8.1f}"
        for number, kernel in enumerate(form.kernels):
            print(f"{what if not number else '':<48}  {_kernel(kernel)}")
        if not form.kernels:
            print(f"{what}  {form.error or 'none of ours'}", flush=True)
    return done


def _steps(target: Any, ptxas: Path, quick: bool) -> list[Step]:
    from approxtrain import config
    from tools.gpu import check

    done = []
    for name, precision in STEPS[:1] if quick else STEPS:
        for step in check.steps(target, ptxas, name, config.load(name, [f"train.precision={precision}"])):
            done.append(step)
            print(f"\na training step of {name}, {precision}, column {step.column + 1}")
            counts = ", ".join(f"{count} {kind}" for kind, count in step.convolutions.items() if count)
            print(f"  cuDNN convolutions  {counts}")
            print(f"  kernels of ours     {', '.join(f'{n} {name}' for name, n in step.calls.items()) or 'none'}")
            before = sorted({name for names in step.before.values() for name in names})
            after = sorted({name for names in step.after.values() for name in names})
            print(f"  transposes before   {', '.join(before) or 'none'}")
            print(f"  transposes after    {', '.join(name for name in after if '/' not in name) or 'none'}", end="")
            print(f"; inside of the optimiser's kernels: {sum('/' in name for name in after)}")
            print(f"  launches            {', '.join(f'{n} {kind}' for kind, n in step.launched.items())}")
            for layer in step.layers:
                if layer.why:
                    print(f"  {layer.path:<20} {layer.form:<7} {layer.why}", flush=True)
    return done


def _kernel(kernel: Any) -> str:
    found = kernel.resources
    grid = "×".join(map(str, kernel.grid))
    spill = f"SPILLS {found.spill_store_bytes}+{found.spill_load_bytes} B" if found.spills else "no spills"
    return (
        f"{kernel.name:<16} {found.registers:3d} registers, {spill}, {found.stack_bytes} B stack, "
        f"{kernel.shared_bytes + found.static_shared_bytes} B shared, grid {grid}, {kernel.warps} warps, "
        f"{kernel.warps_at_a_time}/64 at a time"
    )


def _write(file: Path, forms: list[Form], steps: list[Step], problems: list[str]) -> None:
    from approxtrain.disk import write_json
    from approxtrain.run import record

    names = ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc")
    result = {
        "command": "make gpu-check",
        "measured": "compiled, not run",
        "device": "NVIDIA H200, described by tools/gpu/h200_target_config.txt",
        "compiler": {name: version(name) for name in names},
        "environment": record.environment(),
        "problems": problems,
        "forms": [form.as_json() for form in forms],
        "steps": [step.as_json() for step in steps],
    }
    write_json(file, result)


if __name__ == "__main__":
    sys.exit(main())
