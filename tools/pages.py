"""Renders from results/ what docs/ show of them; tests hold the pages to it.

python -m tools.pages cpu             # prints the tables of docs/cpu.md
python -m tools.pages performance     # prints those of docs/performance.md, and last that of docs/measured.md
python -m tools.pages reproduction    # writes docs/reproduction.md between its two marks, and its pictures
python -m tools.pages reliability     # writes docs/reliability.md between its two marks
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from approxtrain.bench.timing import Times, ratio
from approxtrain.report import inputs, paper_report
from approxtrain.report.document import Document
from tools.rendered import DOCS, ROOT, Part, table

RESULTS = ROOT / "results"
NEW, OLD = "avx512", "bench"
"""Folders of results/ with steps: a machine with AVX-512, and an earlier version on one with AVX2."""
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
REPRODUCTION, RELIABILITY = (Part(DOCS / f"{name}.md", "from results/") for name in ("reproduction", "reliability"))
PICTURES = DOCS / "reproduction"
SHOWN = ("figure5", "figure6", "pareto")
"""The figures whose panels stand on the page; `approxtrain report --paper` has them all."""

Rows = Iterator[Sequence[str]]
"""Of a table; the first is its head."""


def interval(bounds: dict[str, Any], digits: int = 3) -> str:
    value, low, high = (f"{bounds[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}–{high})" + (" noisy" if bounds.get("verdict") == "NOISY" else "")


def percent(bounds: dict[str, Any], digits: int = 1) -> str:
    value, low, high = (f"{100 * bounds[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % ({low} to {high})"


def cpu() -> list[str]:
    approx = convolutions("paper") + convolutions("networks")
    pooled = convolutions("pooled-paper") + convolutions("pooled-networks")
    exact = {"weight gradient": approx, "forward": convolutions("forward"), "input gradient": convolutions("dgrad")}
    return [table(methods(approx, pooled)), *(table(exact_part(part, rows)) for part, rows in exact.items())]


def convolutions(name: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / f"bench/kernel-{name}-cpu.json").read_text("utf-8"))["rows"]


def layer(row: dict[str, Any]) -> str:
    shape = row["shape"]
    kernel, stride = shape["kernel_size"][0], shape["strides"][0]
    size = f"{shape['in_channels']}→{shape['out_channels']}, {shape['height']}×{shape['width']}"
    return size + (f", k{kernel}" if kernel != 3 else "") + (f", s{stride}" if stride != 1 else "")


def fastest_ms(row: dict[str, Any], *names: str) -> str:
    """The smallest median of these contenders."""
    return f"{min(median(row['milliseconds'][name]) for name in names):.2f}"


def exact_part(part: str, measured: list[dict[str, Any]]) -> Rows:
    yield part, "ours", "XLA", "PyTorch", "ours / PyTorch"
    for row in measured:
        (over,) = (ratio for name, ratio in row["ratios"].items() if name.startswith("ours/torch"))
        times = (fastest_ms(row, names) for names in ("ours", "xla"))
        yield layer(row), *times, fastest_ms(row, "torch nchw", "torch nhwc"), interval(over, 2)


def methods(approx: list[dict[str, Any]], pooled: list[dict[str, Any]]) -> Rows:
    yield "weight gradient", "`approx`", "times faster", "`pooled`, r = 2", "times faster"
    for pair in zip(approx, pooled, strict=True):
        assert layer(pair[0]) == layer(pair[1])
        cells = [layer(pair[0])]
        for row in pair:
            over = row["ratio"]
            speed = {"value": 1 / over["value"], "low": 1 / over["high"], "high": 1 / over["low"]}
            cells += [fastest_ms(row, "method"), interval(speed | {"verdict": over["verdict"]}, 2)]
        yield cells


def performance() -> list[str]:
    """The tables of docs/performance.md, and docs/measured.md's."""
    every = (exact_steps(NEW), exact_steps(OLD), split(), places(), switching(), schedules(), schedules(brief=True))
    return list(map(table, every))


def step(model: str, folder: str = NEW, kind: str = "step") -> dict[str, Any]:
    return json.loads((RESULTS / folder / f"{kind}-{model}-cpu.json").read_text("utf-8"))


def exact_steps(folder: str) -> Rows:
    yield "exact step", "ours", "plain", "ours / plain", "best PyTorch", "ours / PyTorch", "n"
    for model in SCHEDULES:
        measured = step(model, folder)
        times = {name: f"{each['median_ms']:.0f} ms" for name, each in measured["contenders"].items()}
        peers = measured["full_to_peer"]
        torch = next(name for name in peers if name.startswith("torch"))
        ours = (f"`{model}`", times["full"], times["plain"], interval(peers["plain"]))
        best = f"{times[torch]}, {torch.removeprefix('torch ')}"
        yield *ours, best, interval(peers[torch]), str(measured["rounds"])


def split() -> Rows:
    yield "exact step, ms", "forward", "dgrad", "wgrad", "the rest", "whole"
    for model in SCHEDULES:
        yield f"`{model}`", *(f"{part:.0f}" for part in step(model)["split_ms"].values())


def places() -> Rows:
    yield "over the exact step alone", "in a loop", "under `lax.switch`", "temporaries, MB: ours", "plain"
    for model, kind in SCHEDULES.items():
        ways, peers = step(model, kind=kind)["contenders"], step(model)["contenders"]
        ratios = (interval(ways[name]["ratio_to_full"]) for name in ("loop", "switch"))
        yield f"`{model}`", *ratios, *(f"{peers[name]['temporaries_mb']:.0f}" for name in ("full", "plain"))


def switching() -> Rows:
    """From a run of its own, long enough to see one percent."""
    measured = step("resnet20", kind="switch")
    times = {name: Times.of_milliseconds(each["milliseconds"]) for name, each in measured["contenders"].items()}

    def over(name: str, base: str) -> str:
        return "" if name == base else interval(ratio(times[name], times[base]).as_json())

    head = f"`resnet20`, exact step, {measured['rounds']} rounds"
    yield head, "ms", "over one call a step", "over the same without a switch"
    for name, base, text in WAYS:
        yield text, f"{1e3 * times[name].median:.1f}", over(name, "full"), over(name, base)


def schedules(brief: bool = False) -> Rows:
    """All, or those that docs/measured.md has: one schedule a network, without `random`."""
    yield "network", "schedule", "time saved", "at most", "share of that reached"
    for model, kind in SCHEDULES.items():
        for name, each in step(model, kind=kind)["schedules"].items():
            if not brief or (name.split()[0].endswith(("schedule1", "alternate", "pooled")) and "random" not in name):
                most = f"{100 * each['bound_speed_up']['value']:.1f} %"
                yield f"`{model}`", name, percent(each["speed_up"]), most, percent(each["share_of_bound"], 0)


def report() -> Document:
    bench = RESULTS / "bench"
    kernels = [bench / "kernel-paper-cpu.json", RESULTS / "gpu/h100/table1-tf32.json"]
    given = inputs.read([RESULTS / "reproduction", *sorted(bench.glob("step-*.json")), *kernels])
    return paper_report.compose(given).document


def reproduction(document: Document) -> str:
    """The sections without pictures, or with those of SHOWN, from their folder beside the page."""
    _, *sections = document.markdown.split("\n## ")
    shown = [
        text for text in sections if "](figures/" not in text or any(f"](figures/{name}" in text for name in SHOWN)
    ]
    return "## " + "\n## ".join(shown).replace("](figures/", "](reproduction/")


def write_reproduction() -> None:
    document = report()
    REPRODUCTION.put(f"\n{reproduction(document)}\n")
    PICTURES.mkdir(exist_ok=True)
    for picture in document.pictures:
        if picture.name.startswith(SHOWN):
            (PICTURES / f"{picture.name}.png").write_bytes(picture.png)


def reliability() -> str:
    """What the last soak came to."""
    soak = json.loads((RESULTS / "soak.json").read_text("utf-8"))
    where, kills, steady = (soak[name] for name in ("environment", "kills", "steadiness"))
    before, after = steady["after_a_quarter"], steady["at_the_end"]
    names = {"memory_mb": "memory, MB", "descriptors": "descriptors", "threads": "threads"}
    return "\n\n".join(
        [
            f"{where['processor']}, {where['cpu_count']} cores, device {where['device']}, Python {where['python']}, "
            f"jax {where['versions']['jax']}; {soak['seconds'] / 3600:.1f} hours of work. "
            f"Bytes lost: {soak['bytes_lost']:,}; tracebacks: {soak['tracebacks']:,}; hangs: {soak['hangs']:,}; "
            f"peak memory of a process: {soak['peak_memory_mb']:,.0f} MB.",
            f"**Kills.** {kills['kills']:,}, of which {kills['kills_in_a_save']:,} in a save: {kills['bytes_lost']:,} "
            "bytes of parameters and rows differ from a run that nobody touched.",
            table(faulty(soak["faults"])),
            table(spoilt(soak["inputs"])),
            f"**{steady['steps']:,} steps with {steady['saves']:,} saves**, after a quarter of them and at the end: "
            + "; ".join(f"{text} {before[name]:,.0f} and {after[name]:,.0f}" for name, text in names.items())
            + ".",
        ]
    )


def faulty(scenarios: list[dict[str, Any]]) -> Rows:
    yield "file operations of", "operations", "failed", "crashes", "power cuts", "lost"
    for each in scenarios:
        numbers = (each[name] for name in ("operations", "failed", "crashed", "power_cut", "lost"))
        yield each["scenario"], *(f"{number:,}" for number in numbers)


def spoilt(readers: list[dict[str, Any]]) -> Rows:
    yield "spoilt inputs of", "inputs", "tracebacks", "hangs"
    for each in readers:
        yield each["reader"], *(f"{each[name]:,}" for name in ("inputs", "tracebacks", "hangs"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["cpu"]:
            print("\n\n".join(cpu()))
        case ["performance"]:
            print("\n\n".join(performance()))
        case ["reproduction"]:
            write_reproduction()
        case ["reliability"]:
            RELIABILITY.put(f"\n{reliability()}\n")
        case _:
            sys.exit(__doc__)
