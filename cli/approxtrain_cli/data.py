"""`approxtrain data`: fetch, import, verify and convert images."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from approxtrain_cli import output

QUIET_SECONDS = 10.0
"""Where stdout is no terminal, what takes long says at least this often how far it is."""

app = typer.Typer(
    no_args_is_help=True,
    help="""Get images for training, and check them.

    \b
    approxtrain data fetch                                download CIFAR-10
    approxtrain data import cifar-10-binary.tar.gz        CIFAR's archive or folder that you have
    approxtrain data import FOLDER --name cifar10-mine    other images in CIFAR's layout
    approxtrain data verify
    approxtrain data convert TFRECORDS FOLDER             TFRecord files to ArrayRecord files

    Images of your own need no import: approxtrain train data.dir=FOLDER data.name=NAME
    """,
)

Folder = Annotated[
    Path | None,
    typer.Option("--dir", help="Data folder.", show_default="$APPROXTRAIN_DATA, else the user's cache folder"),
]


@app.command()
def fetch(
    name: Annotated[str, typer.Option(help="cifar10 or cifar100.")] = "cifar10",
    folder: Folder = None,
) -> None:
    """Download CIFAR-10 or CIFAR-100 into the data folder. No other command uses the network."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from approxtrain.data.fetch import fetch as download

    console = Console()
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name)
        path = download(
            folder,
            name=name,
            say=lambda text: console.print(escape(text), soft_wrap=True),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{name}: verified, in {escape(str(path))}", soft_wrap=True)
    _tell_dir(console, name, folder)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="CIFAR's binary or Python archive, or the folder of one.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name for images that are not the official ones.", show_default="cifar10 or cifar100"),
    ] = None,
    folder: Folder = None,
) -> None:
    """Verify images in CIFAR's form and copy them into the data folder. A folder of images needs no import."""
    from approxtrain.data import store

    console = Console()
    dataset = store.add(path, name, folder)
    console.print(
        f"{dataset.name}: {len(dataset.train):,} training and {len(dataset.validation):,} test "
        f"images, sha256 {dataset.sha256}",
        soft_wrap=True,
    )
    _tell_dir(console, dataset.name, folder)


@app.command()
def verify(
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "cifar10",
    folder: Folder = None,
) -> None:
    """Hash the images again and show what was expected and what was found. Exit code 3 where they differ."""
    from approxtrain.data import store

    console = Console()
    place, checks = store.verify(name, folder)
    console.print(f"{escape(name)}: {escape(place)}", soft_wrap=True)
    for check in checks:
        console.print(f"  {escape(check.what)}: {_verdict(check.expected, check.actual)}", soft_wrap=True)
    failed = sum(not check.passed for check in checks)
    console.print(f"{failed} of {len(checks)} differ" if failed else "verified")
    if failed:
        raise typer.Exit(3)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of TFRecord files, with train or validation in their names.")],
    target: Annotated[Path, typer.Argument(help="Folder to make.")],
    first_label: Annotated[int, typer.Option(help="The label of the first class; in ImageNet's files often 1.")] = 0,
    classes: Annotated[
        Path | None,
        typer.Option(help="File with the name of a class on each line.", show_default="as the records call them"),
    ] = None,
) -> None:
    """Make ArrayRecord files of TFRecord files of images, without TensorFlow, each checksum looked at."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from approxtrain.data import array_record
    from approxtrain.data.convert import convert as make

    console = Console()
    names = None if classes is None else array_record.names_in(classes)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(str(source))
        said = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal said
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - said > QUIET_SECONDS:
                console.print(f"{done / total:.0%} of {total:,} bytes")
                said = time.monotonic()

        found = make(source, target, first_label=first_label, names=names, progress=progress)
    for split, count in found.images.items():
        console.print(f"{split}: {count:,} images")
    console.print(f"{max(found.names) + 1} classes, in {escape(str(target / array_record.CLASSES))}", soft_wrap=True)
    if 0 not in found.names:
        smallest = min(found.names) + first_label
        output.warn(
            f"no image has the label {first_label}; the smallest is {smallest}. Perhaps --first-label {smallest}? Then "
            f"remove {target} first."
        )
    _tell_dir(console, target.name, target)


def _verdict(expected: str | None, found: str) -> str:
    if expected is None:
        return f"{found}, none recorded to compare with"
    expected = escape(expected)  # of a manifest, which anybody may have written
    return f"{found}, as expected" if found == expected else f"[red]{found}, expected {expected}[/red]"


def _tell_dir(console: Console, name: str, folder: Path | None) -> None:
    option = "" if folder is None else f" data.dir={quote(str(folder))}"
    console.print(f"Use it: approxtrain train data.name={escape(name)}{escape(option)}", soft_wrap=True)
