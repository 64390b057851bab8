"""Prints the tables of docs/performance.md from results/, and last that of README. A test holds the pages to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from approxtrain.bench.timing import Times, ratio

RESULTS = Path(__file__).resolve().parents[2] / "results"
NEW, OLD = "avx512", "bench"
"""Folders of results/: a machine with AVX-512, and an earlier version on one with AVX2."""
SCHEDULES = {"cnn2": "step", "resnet20": "step", "vgg19": "schedules"}
"""Network → the kind of file that has its schedules and its ways to stand. VGG-19's have a run without the peers: a
plain step of 8 s left time for few."""
WAYS = (
    ("full", "full", "one call a step"),
    ("switch", "full", "one call a step, switched"),
    ("loop", "loop", "two steps a call"),
    ("switch loop", "loop", "two steps a call, switched"),
)
"""Contender, the same without a switch, and what it is."""


def result(model: str, folder: str = NEW, kind: str = "step") -> dict[str, Any]:
    return json.loads((RESULTS / folder / f"{kind}-{model}-cpu.json").read_text("utf-8"))


def interval(bounds: dict[str, Any]) -> str:
    text = f"{bounds['value']:.3f} ({bounds['low']:.3f}–{bounds['high']:.3f})"
    return text + (" noisy" if bounds.get("verdict") == "NOISY" else "")


def percent(bounds: dict[str, Any], digits: int = 1) -> str:
    value, low, high = (f"{100 * bounds[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % ({low} to {high})"


def exact(folder: str = NEW) -> Iterator[str]:
    yield "| exact step | ours | plain | ours / plain | best PyTorch | ours / PyTorch | n |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for model in SCHEDULES:
        measured = result(model, folder)
        times = {name: f"{each['median_ms']:.0f} ms" for name, each in measured["contenders"].items()}
        peers = measured["full_to_peer"]
        torch = next(name for name in peers if name.startswith("torch"))
        best = f"{times[torch]}, {torch.removeprefix('torch ')}"
        cells = (times["full"], times["plain"], interval(peers["plain"]), best, interval(peers[torch]))
        yield f"| `{model}` | {' | '.join(cells)} | {measured['rounds']} |"


def split() -> Iterator[str]:
    yield "| exact step, ms | forward | dgrad | wgrad | the rest | whole |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for model in SCHEDULES:
        yield f"| `{model}` | {' | '.join(f'{part:.0f}' for part in result(model)['split_ms'].values())} |"


def places() -> Iterator[str]:
    yield "| over the exact step alone | in a loop | under `lax.switch` | temporaries, MB: ours | plain |"
    yield "| --- | --- | --- | --- | --- |"
    for model, kind in SCHEDULES.items():
        ways, peers = result(model, kind=kind)["contenders"], result(model)["contenders"]
        ratios = (interval(ways[name]["ratio_to_full"]) for name in ("loop", "switch"))
        memory = (f"{peers[name]['temporaries_mb']:.0f}" for name in ("full", "plain"))
        yield f"| `{model}` | {' | '.join((*ratios, *memory))} |"


def switching() -> Iterator[str]:
    """From a run of its own, long enough to see one percent."""
    measured = result("resnet20", kind="switch")
    times = {name: Times.of_milliseconds(each["milliseconds"]) for name, each in measured["contenders"].items()}

    def over(name: str, base: str) -> str:
        return "" if name == base else interval(ratio(times[name], times[base]).as_json())

    rounds = measured["rounds"]
    yield f"| `resnet20`, exact step, {rounds} rounds | ms | over one call a step | over the same without a switch |"
    yield "| --- | --- | --- | --- |"
    for name, base, text in WAYS:
        yield f"| {text} | {1e3 * times[name].median:.1f} | {over(name, 'full')} | {over(name, base)} |"


def schedules(brief: bool = False) -> Iterator[str]:
    """All, or those that README has: one schedule a network, without `random`."""
    yield "| network | schedule | time saved | at most | share of that reached |"
    yield "| --- | --- | --- | --- | --- |"
    for model, kind in SCHEDULES.items():
        for name, each in result(model, kind=kind)["schedules"].items():
            if not brief or (name.split()[0].endswith(("schedule1", "alternate", "pooled")) and "random" not in name):
                most = f"{100 * each['bound_speed_up']['value']:.1f} %"
                reached = percent(each["share_of_bound"], 0)
                yield f"| `{model}` | {name} | {percent(each['speed_up'])} | {most} | {reached} |"


if __name__ == "__main__":
    tables = (exact(), exact(OLD), split(), places(), switching(), schedules(), schedules(brief=True))
    print("\n\n".join("\n".join(table) for table in tables))
