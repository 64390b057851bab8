"""Hours of what may go wrong: kills, failing disks, power cuts, spoilt inputs, long runs. `make soak` runs it.

    make soak                                          200 kills, a million inputs, every file operation, 2,000 steps
    make soak SOAK_ARGS="--scale 0.1"                  a tenth of the kills, inputs and steps
    make soak SOAK_ARGS="--kills 20 --inputs 50000"    so many of them
    make soak SOAK_ARGS="--minutes 30"                 what can be begun in half an hour; the same again goes on

What is done is kept in runs/soak, so that a soak that was ended goes on; results/soak.json tells what it came to.
Ends with 1 where anything was lost, and where a traceback or a hang was seen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from approxtrain import disk
from tools.soak import units
from tools.soak.units import Size

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    asked = _arguments()
    if asked.unit:
        print(json.dumps(units.run(asked.unit, Size(*json.loads(asked.size)), asked.work)))
        return 0
    scaled = {name: max(1, round(asked.scale * getattr(asked, name))) for name in ("kills", "inputs", "steps")}
    size = Size(**scaled, cuts=asked.cuts, seed=asked.seed)
    from approxtrain.run.environment import this_environment

    environment = this_environment()
    work = asked.work / f"{str(environment['git_commit'])[:12]}-{'-'.join(map(str, size))}"
    work.mkdir(parents=True, exist_ok=True)
    done = _all(units.names(size), size, work, 60 * asked.minutes)
    result = {"environment": environment, **units.together(done, size)}
    disk.write_json(asked.out, result)
    bad = {name: result[name] for name in ("bytes_lost", "tracebacks", "hangs")}
    print(f"{asked.out}: {', '.join(f'{name} {count}' for name, count in bad.items())}, lost {len(result['lost'])}")
    for text in result["lost"][:10]:
        print(text)
    return 1 if result["lost"] or any(bad.values()) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = Size()
    for name in ("kills", "inputs", "steps", "cuts", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(known, name))
    parser.add_argument("--scale", type=float, default=1.0, help="times the kills, inputs and steps")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after them no more is begun")
    parser.add_argument("--out", type=Path, default=ROOT / "results/soak.json")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/soak", help="where what is done is kept")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    return parser.parse_args()


def _all(names: list[str], size: Size, work: Path, seconds: float) -> list[dict[str, Any]]:
    """What each unit came to; those that are done already are not done again, and none is begun after `seconds`."""
    book = work / "done.jsonl"
    done = [json.loads(line) for line in book.read_text("utf-8").splitlines()] if book.is_file() else []
    known = {each["unit"] for each in done}
    begin, before = time.monotonic(), len(done)
    for name in (name for name in names if name not in known):
        if time.monotonic() - begin >= seconds:
            print(f"{len(names) - len(done)} of {len(names)} are left: the same command goes on with them", flush=True)
            break
        found = _apart(name, size, work)
        done.append(found)
        with book.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        passed, count = time.monotonic() - begin, len(done) - before
        left = passed / count * (len(names) - len(done)) / 60
        bad = len(found["lost"]) or "nothing"
        print(f"{len(done)} of {len(names)}, about {left:.0f} min left: {name}: {bad} lost", flush=True)
    return done


def _apart(name: str, size: Size, work: Path) -> dict[str, Any]:
    """The unit in a process of its own, which may hang or end as it likes."""
    command = [sys.executable, "-m", "tools.soak", "--unit", name, "--work", str(work), "--size", json.dumps(size)]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "cli", ROOT / "kernels")))
    environment = os.environ | {"PYTHONPATH": paths}
    begin, pipe, wrong = time.monotonic(), subprocess.PIPE, ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            said, wrong = process.communicate(timeout=units.LONGEST)
            return json.loads(said.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            hangs = isinstance(error, subprocess.TimeoutExpired)
            if hangs:
                os.killpg(process.pid, signal.SIGKILL)
                said, wrong = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    found = {"unit": name, "part": name.split()[0], "tracebacks": int(not hangs), "hangs": int(hangs), "bytes_lost": 0}
    lost = f"{name} ended with {process.returncode}: {wrong[-2000:]}"
    return found | {"lost": [lost], "seconds": time.monotonic() - begin, "peak_memory_mb": 0.0}


if __name__ == "__main__":
    sys.exit(main())
