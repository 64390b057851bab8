"""The program `approxtrain`: its commands, and the one place where an error becomes a message and exit code.

    0 ok   2 usage or configuration   3 data   4 diverged   5 checkpoint unusable   6 disk   7 folder locked
    8 a step came out differently the second time   9 out of memory   75 another process was lost
    129, 130, 143 ended by SIGHUP, SIGINT, SIGTERM

A command's module imports jax inside its function: `--help`, `ls`, `schedule-show` and `report` answer without it.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Annotated

import typer

from approxtrain.errors import ApproxtrainError, ConfigError, InterruptedRun
from approxtrain.run import process
from approxtrain_cli import (
    bench_kernel,
    bench_step,
    config,
    data,
    evaluate,
    export,
    faults,
    ls,
    output,
    predict,
    report,
    reproduce,
    schedule_show,
    schedule_tune,
    train,
    worth,
)

app = typer.Typer(
    name="approxtrain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,  # plain help: it does not import rich
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("schedule-show")(schedule_show.schedule_show)
app.command("schedule-tune")(schedule_tune.schedule_tune)
app.command("bench-kernel")(bench_kernel.bench_kernel)
app.command("bench-step")(bench_step.bench_step)
app.command("worth")(worth.worth)
app.command("reproduce")(reproduce.reproduce)
app.command("report")(report.report)
app.command("ls")(ls.ls)
app.command("config")(config.config)
app.command("cp")(config.cp)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the program on `sys.argv`; typer exits with the code."""
    output.open_closed_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "×" shows "?" in place of a traceback
    process.keep_freed_memory()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments or os.environ.get("APPROXTRAIN_DEBUG", "0") not in ("", "0")
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="approxtrain")
    except Exception as error:
        known = faults.known(error)
        if known is None:
            raise
        if debug:
            output.tell(traceback.format_exc().rstrip())
        output.tell(_message(known))
        sys.exit(known.exit_code)
    finally:
        output.settle()


def _message(error: ApproxtrainError) -> str:
    if isinstance(error, InterruptedRun):
        return str(error)  # asked for, so no error
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        return "\n  - ".join([f"error: {len(error.problems)} problems in the configuration:", *error.problems])
    return f"error: {error}"


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    from approxtrain import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    versions = ", ".join(f"{package} {version(package)}" for package in ("jax", "jaxlib", "flax"))
    print(f"approxtrain {__version__} (Python {python}, {versions})")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; so does APPROXTRAIN_DEBUG=1.")
    ] = False,
) -> None:
    """Train convolutional networks with approximated weight gradients.

    \b
    approxtrain ls                             what there is to choose from
    approxtrain train quickstart               train, in minutes, without a download
    approxtrain schedule-show cnn2-approx      which layers approximate at which steps
    approxtrain train cnn2-approx data.dir=FOLDER train.epochs=3
    """
