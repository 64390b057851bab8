"""Trains, times and shows the arms of docs/frontier.md.

python -m tools.frontier train DIR --arms resnet20/both … --seeds 0 1 2   # what is missing; goes on where it was killed
python -m tools.frontier time DIR --networks resnet20                     # steps; the machine must be quiet
python -m tools.frontier page                                             # writes the tables and pictures

DIR is a folder with the images of `cifar10-jpeg75` in the layout of CIFAR-10.
"""

from __future__ import annotations

from approxtrain.run import process
from approxtrain.run.environment import this_environment
from tools import arms
from tools.frontier import page, times
from tools.frontier.families import COMMANDS, FAMILIES


def main() -> None:
    parser, commands = arms.command_line(str(__doc__), COMMANDS)
    timed = commands.add_parser("time")
    timed.add_argument("images")
    timed.add_argument("--networks", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    asked = parser.parse_args()
    if asked.command == "train":
        arms.train(times.RESULTS, COMMANDS, asked)
    elif asked.command == "time":
        arms.refuse_changed_files()
        process.keep_freed_memory()  # as the commands do, before jax starts
        environment = this_environment()  # a result that is written would be a change that is not committed
        for network in asked.networks:
            times.measure(network, asked.images, environment)
    else:
        page.write()


if __name__ == "__main__":
    main()
