"""Prints the tables of docs/performance.md from results/. A test holds the page against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from approxtrain.bench.timing import Times, ratio

RESULTS = Path(__file__).resolve().parents[2] / "results"
NEW, OLD = "avx512", "bench"
"""Folders of results/: a machine with AVX-512, and an earlier version on one with AVX2."""
MODELS = ("cnn2", "resnet20", "vgg19")
ALONE = ("vgg19",)
"""Networks whose schedules and ways to stand have a run without the peers: a plain step of 8 s left time for few."""
WAYS = (
    ("full", "full", "one call a step"),
    ("switch", "full", "one call a step, switched"),
    ("loop", "loop", "two steps a call"),
    ("switch loop", "loop", "two steps a call, switched"),
)
"""Contender, the same without a switch, and what it is."""
BRIEF = ("schedule1", "alternate", "pooled")


def result(model: str, folder: str = NEW, kind: str = "step") -> dict[str, Any]:
    return json.loads((RESULTS / folder / f"{kind}-{model}-cpu.json").read_text("utf-8"))


def kind(model: str) -> str:
    """Of the file that has the network's schedules, and its ways to stand."""
    return "schedules" if model in ALONE else "step"


def interval(found: dict[str, Any], percent: bool = False) -> str:
    if percent:
        value, low, high = (f"{100 * found[key]:.1f}" for key in ("value", "low", "high"))
        return f"{value} % ({low} to {high})"
    text = f"{found['value']:.3f} ({found['low']:.3f}–{found['high']:.3f})"
    return text + (" noisy" if found.get("verdict") == "NOISY" else "")


def exact(folder: str = NEW) -> Iterator[str]:
    yield "| exact step | ours | plain | ours / plain | best PyTorch | ours / PyTorch | n |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for model in MODELS:
        found = result(model, folder)
        times = {name: each["median_ms"] for name, each in found["contenders"].items()}
        peers = found["full_to_peer"]
        torch = next(name for name in peers if name.startswith("torch"))
        cells = (
            f"`{model}`",
            f"{times['full']:.0f} ms",
            f"{times['plain']:.0f} ms",
            interval(peers["plain"]),
            f"{times[torch]:.0f} ms, {torch.removeprefix('torch ')}",
            interval(peers[torch]),
            str(found["rounds"]),
        )
        yield f"| {' | '.join(cells)} |"


def earlier() -> Iterator[str]:
    return exact(OLD)


def split() -> Iterator[str]:
    yield "| exact step, ms | forward | dgrad | wgrad | the rest | whole |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for model in MODELS:
        parts = result(model)["split_ms"].values()
        yield f"| `{model}` | {' | '.join(f'{part:.0f}' for part in parts)} |"


def places() -> Iterator[str]:
    yield "| over the exact step alone | in a loop | under `lax.switch` | temporaries, MB: ours | plain |"
    yield "| --- | --- | --- | --- | --- |"
    for model in MODELS:
        ways, found = result(model, kind=kind(model))["contenders"], result(model)["contenders"]
        ratios = (interval(ways[name]["ratio_to_full"]) for name in ("loop", "switch"))
        memory = (f"{found[name]['temporaries_mb']:.0f}" for name in ("full", "plain"))
        yield f"| `{model}` | {' | '.join((*ratios, *memory))} |"


def switching() -> Iterator[str]:
    """Of a run of its own, long enough to see one percent."""
    found = result("resnet20", kind="switch")
    times = {name: Times.of_milliseconds(each["milliseconds"]) for name, each in found["contenders"].items()}

    def over(name: str, base: str) -> str:
        return "" if name == base else interval(ratio(times[name], times[base]).as_json())

    rounds = found["rounds"]
    yield f"| `resnet20`, exact step, {rounds} rounds | ms | over one call a step | over the same without a switch |"
    yield "| --- | --- | --- | --- |"
    for name, base, text in WAYS:
        yield f"| {text} | {1e3 * times[name].median:.1f} | {over(name, 'full')} | {over(name, base)} |"


def schedules(keep: Callable[[str], bool] = lambda name: True) -> Iterator[str]:
    yield "| network | schedule | time saved | at most | share of that reached |"
    yield "| --- | --- | --- | --- | --- |"
    for model in MODELS:
        for name, found in result(model, kind=kind(model))["schedules"].items():
            if keep(name):
                yield f"| `{model}` | {name} | {saved(found)} |"


def saved(found: dict[str, Any]) -> str:
    share = found["share_of_bound"]
    reached = f"{100 * share['value']:.0f} % ({100 * share['low']:.0f} to {100 * share['high']:.0f})"
    most = f"{100 * found['bound_speed_up']['value']:.1f} %"
    return f"{interval(found['speed_up'], percent=True)} | {most} | {reached}"


def brief() -> Iterator[str]:
    """The rows of `schedules` that the README has: one schedule a network, without `random`."""
    return schedules(lambda name: name.split()[0].endswith(BRIEF) and "random" not in name)


def tables() -> dict[str, str]:
    return {part.__name__: "\n".join(part()) for part in (exact, earlier, split, places, switching, schedules, brief)}


if __name__ == "__main__":
    print("\n\n".join(tables().values()))
