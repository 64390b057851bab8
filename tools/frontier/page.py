"""docs/frontier.md: for each network a table and a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from approxtrain.report.estimates import estimate, interval, paired
from tools.frontier import times
from tools.frontier.comparison import accuracies, at_equal_time, of_time_to_equal_accuracy
from tools.frontier.families import FAMILIES, LINE, WHOLE
from tools.rendered import DOCS, Part, table

HEAD = (
    *("run", "time", "accuracy, %", "against the whole exact run", "against exact training of equal time"),
    *("time over that of exact training which is as accurate", "seeds"),
)
GREY = "#808080"
MARKERS = {"resnet8": "v", "resnet14": "s", "resnet32": "^"}


def part(network: str) -> Part:
    return Part(DOCS / "frontier.md", f"from results/frontier/{network}/")


def write() -> None:
    for network in FAMILIES:
        part(network).put(text(network))
        if any(accuracies(network, name) for name in FAMILIES[network].arms):
            (DOCS / _picture(network)).write_bytes(draw(network))


def text(network: str) -> str:
    known = any(accuracies(network, name) for name in FAMILIES[network].arms)
    picture = f"\n![Accuracy over time, {network}]({_picture(network)})\n"
    return f"{table(rows(network))}\n{picture * known}"


def _picture(network: str) -> str:
    return f"frontier-{network}.png"


def rows(network: str) -> Iterator[tuple[str, ...]]:
    """Of the table, the slowest run first; the first is its head."""
    yield HEAD
    exact, family = accuracies(network, WHOLE), FAMILIES[network]
    shortest = family.arms[LINE[0]].epochs / family.arms[WHOLE].epochs
    shares = {name: times.share_of_time(network, name) for name in family.arms}
    for name, share in sorted(shares.items(), key=lambda item: -item[1].value if item[1] else 0.0):
        found = accuracies(network, name)
        time = f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})" if share else "–"
        whole = "–" if name == WHOLE else interval(paired(found, exact), sign=True)
        equal = faster = "–"
        if share and found and name not in LINE and share.value >= shortest:
            equal = interval(paired(found, at_equal_time(network, name)), sign=True)
            faster = _mean(of_time_to_equal_accuracy(network, name))
        yield family.arms[name].text, time, _mean(found), whole, equal, faster, str(len(found))


def _mean(of_seeds: Mapping[int, float]) -> str:
    return interval(estimate(list(of_seeds.values())))


def colour_of(network: str, name: str) -> str:
    """matplotlib's name of an arm's colour, the same however many others are known."""
    return GREY if FAMILIES[network].arms[name].exact else f"C{_number(network, name) % 10}"


def _number(network: str, name: str) -> int:
    """Of an arm that is not exact training, among such."""
    others = [each for each, arm in FAMILIES[network].arms.items() if not arm.exact]
    return others.index(name) if name in others else 0


def draw(network: str) -> bytes:
    """Accuracy over the share of the exact run's time, a PNG: exact training in grey, schedules in colour, with their
    95 % intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes, family = figure.subplots(), FAMILIES[network]
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, arm in family.arms.items():
        share, found = times.share_of_time(network, name), estimate(list(accuracies(network, name).values()))
        if not share or not found:
            continue
        kind = times.kind(family.config(name)).partition(",")[0]
        if arm.exact:
            lines.setdefault(kind, []).append((share.value, found.mean))
        axes.errorbar(
            share.value,
            found.mean,
            found.half_width or 0.0,
            color=colour_of(network, name),
            marker=MARKERS.get(kind) or "oDPX"[_number(network, name) // 10],
            linestyle="",
            elinewidth=1,
            label=f"exact, {kind}" if arm.exact else arm.text,
        )
    for points in lines.values():
        axes.plot(*zip(*sorted(points), strict=True), color="0.6", linewidth=1)
    axes.set(xlabel="share of the whole exact run's time", ylabel="accuracy on held-out images, %", xscale="log")
    ticks = [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    labels = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.legend(labels.values(), labels.keys(), frameon=False, fontsize="x-small", loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
