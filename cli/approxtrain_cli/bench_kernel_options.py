"""The options of `approxtrain bench-kernel`, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from approxtrain.errors import ConfigError

if TYPE_CHECKING:
    from approxtrain.bench.plan import Case


class Part(StrEnum):
    WGRAD = "wgrad"
    FORWARD = "forward"
    DGRAD = "dgrad"


class Cache(StrEnum):
    COLD = "cold"
    HOT = "hot"
    BOTH = "both"

    @property
    def order(self) -> list[str]:
        """Both are always measured; the first is the row's own in the JSON."""
        return ["hot", "cold"] if self is Cache.HOT else ["cold", "hot"]

    @property
    def shown(self) -> list[str]:
        return self.order if self is Cache.BOTH else self.order[:1]


Shapes = Annotated[
    list[str] | None,
    typer.Option(help="paper, model:NAME (its convolutions at batch 128) or N,H,W,Ci,Co,K,S; repeat it, or use ';'."),
]
MethodName = Annotated[str | None, typer.Option(help="Held against the exact weight gradient; approx if left out.")]
K = Annotated[int | None, typer.Option("--k", help="The method's parameter k.", min=1)]
R = Annotated[int | None, typer.Option("--r", help="The method's parameter r.", min=1)]
Params = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="Any parameter of the method; repeat it.")
]
Dtypes = Annotated[str, typer.Option("--dtype", help="float32, tf32, bfloat16, float16, or some with commas.")]
PartName = Annotated[Part, typer.Option("--part", help="Other parts are exact: ours against XLA's and PyTorch's.")]
Implementation = Annotated[
    str | None, typer.Option(help="The method's: reference, xla or pallas; the fastest if left out.")
]
CacheName = Annotated[Cache, typer.Option("--cache", help="Which times to print; the JSON has both.")]
Rounds = Annotated[int, typer.Option(help="Samples of each contender, interleaved; fewer than 6 say nothing.", min=3)]
Listing = Annotated[bool, typer.Option("--list", help="List parts, shapes, methods, dtypes and contenders, and stop.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be measured, with its bytes and operations.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every sample and the environment.")]
Compare = Annotated[Path | None, typer.Option(metavar="FILE", help="Hold the times against those of an older JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Compare even if device, versions, flags or clock differ.")]
FailIfSlower = Annotated[
    float | None,
    typer.Option(metavar="PCT", min=0, help="Exit 1 if a row is surely that much slower than its base or --compare."),
]
Image = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw times against this machine's limits (.png …).")]


@dataclass(frozen=True)
class Asked:
    """What the options come to."""

    shapes: str
    dtype: str
    part: str
    cache: Cache
    rounds: int
    cases: tuple[Case, ...]

    @property
    def method(self) -> str:
        return self.cases[0].method.label

    @property
    def what(self) -> str:
        """ "the method approx(k=2) against the dense weight gradient"."""
        if self.cases[0].subject == "method":
            return f"the method {self.method} against the dense weight gradient"
        name = {"wgrad": "weight gradient", "forward": "convolution", "dgrad": "input gradient"}[self.part]
        return f"our exact {name} against the others'"

    def as_json(self) -> dict[str, Any]:
        return {
            "shapes": self.shapes,
            "method": self.method,
            "dtype": self.dtype,
            "part": self.part,
            "cache": self.cache.order[0],
            "implementation": self.cases[0].implementation,
            "rounds": self.rounds,
        }


def asked(
    shapes: list[str] | None,
    method: str | None,
    params: dict[str, object],
    dtype: str,
    part: Part,
    implementation: str | None,
    cache: Cache,
    rounds: int,
) -> Asked:
    """Raises ConfigError. Imports no jax."""
    from approxtrain.bench import plan

    rule = plan.method_of(method or ("approx" if part is Part.WGRAD else "full"), params)
    texts = shapes or ["paper"]
    cases = plan.cases(texts, dtype, part.value, rule, implementation)
    if not cases:
        raise ConfigError(f"`--shapes` (={'; '.join(texts)!r}) names no shape: paper, model:NAME or N,H,W,Ci,Co,K,S.")
    return Asked(";".join(texts), dtype, part.value, cache, rounds, cases)


def parameters(given: list[str] | None, k: int | None, r: int | None) -> dict[str, object]:
    """`--param NAME=VALUE`, `--k` and `--r` together. Raises ConfigError."""
    found: dict[str, object] = {name: value for name, value in (("k", k), ("r", r)) if value is not None}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"`--param` (={text!r}) must be NAME=VALUE, such as k=4.")
        if name in found:
            raise ConfigError(f"`--param`: {name!r} is given twice.")
        found[name] = _value(value)
    return found


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
