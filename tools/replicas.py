"""What schedules over replicas do for the accuracy: the table of docs/parallel.md, arm by arm and seed by seed.

python -m tools.replicas train DIR --seeds 0 1 2 3   # trains what results/replicas/ lacks; goes on where it was killed
python -m tools.replicas page                        # writes the table

DIR is a folder with the images of `cifar10-jpeg75` in the layout of CIFAR-10. The replicas are virtual devices of a
CPU, which tell results and bytes, and no times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from approxtrain import models
from approxtrain.config import load
from approxtrain.report.estimates import interval, paired
from approxtrain.schedule import Schedule
from approxtrain.schedule import load as loads
from tools import arms
from tools.rendered import DOCS, ROOT, Part, table

RESULTS = ROOT / "results/replicas"
PART = Part(DOCS / "parallel.md", "from results/replicas/")
REPLICAS, EPOCHS, EVERY = 4, 4, 8
ZERO = 'method = "zero", layers = [2]'


class Arm(NamedTuple):
    text: str
    schedule: str

    @property
    def command(self) -> list[str]:
        """Preset and overrides."""
        own = ["optimizer.learning_rate=0.001", "optimizer.decay=1.0", f"train.epochs={EPOCHS}"]
        return ["cnn2-full", *arms.COMMON, *own, f"parallel.devices={REPLICAS}", f"schedule={self.schedule}"]

    @property
    def load(self) -> loads.Load:
        """What each replica computes and sends."""
        preset, *overrides = self.command
        config = load(preset, overrides)
        layers, steps = models.get("cnn2").layers, arms.IMAGES // config.train.batch_size
        schedule = Schedule.from_config(config.schedule, layers, steps, EPOCHS, REPLICAS)
        return loads.load(schedule, layers, config.train.batch_size, steps * EPOCHS)


ARMS = {
    "full": Arm("every gradient", '{ name = "full" }'),
    "aligned": Arm(
        "layer 2 `zero` on all devices at every second step",
        f"{{ rules = [{{ {ZERO}, steps = {{ start = 1, every = 2 }} }}] }}",
    ),
    "rotated": Arm(
        "layer 2 `zero` on two of four devices, in turn",
        f"{{ rules = [{{ {ZERO}, replicas = {{ stop = 2, rotate = 1 }} }}] }}",
    ),
    "local": Arm(f"local SGD, a mean at every {EVERY}th step", f"{{ local = [{{ every = {EVERY} }}] }}"),
}
"""In the order in which they are trained for each seed."""
COMMANDS = {name: arm.command for name, arm in ARMS.items()}


def accuracies(name: str) -> dict[int, float]:
    return arms.accuracies(RESULTS, name)


def rows() -> Iterator[tuple[str, ...]]:
    """Of the table; the first is its head."""
    what = "the slowest device, % of an exact step", "of convolutions sent, MB a step"
    yield "schedule", *what, "accuracy, %", "difference", "seeds"
    exact = accuracies("full")
    for name, arm in ARMS.items():
        found, load = accuracies(name), arm.load
        mean = interval(paired(found, dict.fromkeys(found, 0.0)))
        difference = "–" if name == "full" else interval(paired(found, exact), sign=True)
        yield arm.text, f"{100 * load.slowest:.1f}", f"{1e-6 * load.bytes_sent:.2f}", mean, difference, str(len(found))


def page() -> str:
    return f"{table(rows())}\n"


def main() -> None:
    parser, _ = arms.command_line(str(__doc__), ARMS)
    asked = parser.parse_args()
    if asked.command == "train":
        flag = f"--xla_force_host_platform_device_count={REPLICAS}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
        arms.train(RESULTS, COMMANDS, asked)
    else:
        PART.put(page())


if __name__ == "__main__":
    main()
