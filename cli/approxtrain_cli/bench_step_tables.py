"""The tables of `approxtrain bench-step`, from the same dictionary that `--json` writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from approxtrain_cli.bench_kernel_tables import headed, interval


def tables(result: dict[str, Any]) -> Iterator[Table | str]:
    yield (
        f"\n{result['model']}, batch {result['batch']}, {result['precision']}, {result['data']['name']}, "
        f"{result['rounds']} rounds"
    )
    yield steps(result)
    for name, why in result["left_out"].items():
        yield f"{name} could not run: {why}"
    for peer, ratio in result["full_to_peer"].items():
        yield f"the exact step over {peer}: {interval(ratio, 3)}  {ratio['verdict']}"
    yield "\nthe exact step, ms: its convolutions, each alone, and the rest"
    yield split(result)
    if result["schedules"]:
        yield "\nschedules: speed-up is 1 − T / T(full); the bound leaves the replaced weight gradients out"
        yield schedules(result)


def steps(result: dict[str, Any]) -> Table:
    table = headed("step", "ms (median)", "over full", "95 % interval", "temporaries, MB", "verdict")
    for name, contender in result["contenders"].items():
        ratio, megabytes = contender["ratio_to_full"], contender["temporaries_mb"]
        against = ("", "") if ratio is None else (f"{ratio['value']:.3f}", f"{ratio['low']:.3f}–{ratio['high']:.3f}")
        memory = "" if megabytes is None else f"{megabytes:.0f}"
        table.add_row(name, f"{contender['median_ms']:.1f}", *against, memory, ratio["verdict"] if ratio else "")
    return table


def split(result: dict[str, Any]) -> Table:
    table = headed(*result["split_ms"])
    table.add_row(*(f"{milliseconds:.1f}" for milliseconds in result["split_ms"].values()))
    return table


def schedules(result: dict[str, Any]) -> Table:
    table = headed("schedule", "speed-up", "95 % interval", "bound", "share of the bound", "95 % interval")
    for title, schedule in result["schedules"].items():
        gain, share = schedule["speed_up"], schedule.get("share_of_bound")
        noisy = result["contenders"][title]["ratio_to_full"]["verdict"] == "NOISY"
        if share is None:
            bound = ("–", "–", "")
        else:
            shares = ("NOISY", "") if noisy else (f"{share['value']:.0%}", f"{share['low']:.0%} to {share['high']:.0%}")
            bound = (f"{schedule['bound_speed_up']['value']:.1%}", *shares)
        table.add_row(title, f"{gain['value']:.1%}", f"{gain['low']:.1%} to {gain['high']:.1%}", *bound)
    return table
