"""The box at the head of a report: on what, where and by what its numbers were made; and what is not the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from approxtrain.report.document import Facts
from approxtrain.report.inputs import Measured
from approxtrain.report.selection import DRAWN, Protocol, Selection
from approxtrain.report.wording import counted
from approxtrain.run.archive import Archive

_PAPER = {"batch_size": 128, "augment": True, "precision": "float32"}
_NOT_STATED = (
    "The paper does not state, and ours may differ in: learning rate and its decay, initial weights (ours "
    "He-normal), padding (SAME), crop padding (4), weight decay (none), batch norm's momentum, how often was "
    "validated; on the 2-layer CNN the pooling (3×3, stride 2) and hidden units (384, 192); on ResNets the shortcuts "
    "(filled with zeros)."
)


def facts(selections: Sequence[Selection], archives: Sequence[Archive], benches: Sequence[Measured]) -> Facts:
    """The box. `archives` are all runs that were given, `benches` the measured steps and kernels."""
    runs = [archive for selection in selections for archive in selection.archives] or list(archives)
    items: list[tuple[str, tuple[str, ...]]] = [
        ("images", _distinct(runs, lambda one: data_text(Protocol.of(one)))),
        (
            "epochs",
            tuple(
                f"{s.experiment.short}: {s.protocol.epochs}, the paper {s.paper_epochs}" for s in _tables(selections)
            ),
        ),
        ("seeds", tuple(f"{s.experiment.short}: {', '.join(map(str, s.seeds))}" for s in _tables(selections))),
        ("optimiser", _distinct(runs, lambda one: _optimiser(Protocol.of(one)))),
        ("device", _distinct([*runs, *benches], lambda one: device_text(_environment(one)))),
        ("versions", _distinct([*runs, *benches], lambda one: _versions(_environment(one)))),
        ("commits", _distinct([*runs, *benches], lambda one: _commit(_environment(one)))),
        ("trajectory", _distinct(runs, lambda one: f"{one.trajectory or 'unknown'}")),
        ("measurements", tuple(one.name for one in benches)),
    ]
    return Facts(tuple((name, said) for name, said in items if said))


def data_text(protocol: Protocol) -> str:
    """The data set with its hash; what was drawn is called so in bold."""
    digest = f" (SHA-256 {protocol.sha256[:12]}…)" if protocol.sha256 else ""
    if protocol.data == DRAWN:
        return f"**SHAPES: drawn by the program, not CIFAR-10**{digest}"
    return f"{protocol.data}{digest}, validated on its {protocol.validation or 'test'} images"


def deviations(selections: Sequence[Selection]) -> tuple[str, ...]:
    """What differs from the paper's protocol, each a sentence; what holds for single tables names them."""
    said: dict[str, list[str]] = {}
    for selection in _tables(selections):
        for text in _deviations(selection):
            said.setdefault(text, []).append(selection.experiment.short)
    everywhere = len(_tables(selections))
    sentences = [text if len(where) == everywhere else f"{', '.join(where)}: {text}" for text, where in said.items()]
    if selections:
        sentences.append("Program: JAX and Flax, where the paper has TensorFlow 1.13 and a CUDA kernel on a Titan Xp.")
        sentences.append("The paper has one run a cell, and no interval; ours has as many runs as the tables say (n).")
        sentences.append(_NOT_STATED)
    return tuple(sentences)


def _deviations(selection: Selection) -> Iterable[str]:
    protocol = selection.protocol
    if protocol.data == DRAWN:
        yield (
            "**Images drawn by the program (`shapes`) in place of CIFAR-10: nothing here says anything about the "
            "paper.**"
        )
    elif not protocol.real:
        yield f"Images: `{protocol.data}` in place of CIFAR-10."
    elif protocol.data != "cifar10":
        yield f"Images: `{protocol.data}`, whose bytes are not those of the official CIFAR-10."
    if protocol.epochs != selection.paper_epochs:
        yield f"{counted(protocol.epochs, 'epoch')} in place of about {selection.paper_epochs}."
    for key, paper in _PAPER.items():
        if (ours := protocol.setting("train", key)) != paper:
            yield f"`train.{key}` is {_plain(ours)}; the paper has {_plain(paper)}."
    if protocol.limit:
        yield f"A trial: no more than {protocol.limit} images to train on, and as many to validate on."
    if protocol.validation == "holdout":
        yield "Validated on training images that were set aside; the paper validates on the test images."


def _tables(selections: Sequence[Selection]) -> list[Selection]:
    return [selection for selection in selections if selection.experiment.kind == "table"]


def _optimiser(protocol: Protocol) -> str:
    rate, decay = (protocol.setting("optimizer", key) for key in ("learning_rate", "decay"))
    last = rate * decay**protocol.epochs
    return f"Adam, learning rate {rate:g} falling to {last:.2g}, batch {protocol.setting('train', 'batch_size')}"


def _environment(one: Archive | Measured) -> dict[str, Any]:
    return one.environment if isinstance(one, Archive) else one.values["environment"]


def device_text(environment: dict[str, Any]) -> str:
    if not environment:
        return "unknown"
    if environment["device"] != "cpu":
        return str(environment["device"])
    return f"{environment.get('processor') or 'CPU'}, {counted(environment['cpu_count'], 'core')}"


def _versions(environment: dict[str, Any]) -> str:
    versions = environment.get("versions", {})
    named = [f"{package} {versions[package]}" for package in ("jax", "jaxlib", "flax") if package in versions]
    return ", ".join([f"Python {environment['python']}", *named]) if "python" in environment else "unknown"


def _commit(environment: dict[str, Any]) -> str:
    commit = environment.get("git_commit")
    return f"`{commit[:12]}{'-dirty' if commit.endswith('-dirty') else ''}`" if commit else "unknown"


def _distinct(found: Iterable[Any], text: Callable[[Any], str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text(one) for one in found))


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
