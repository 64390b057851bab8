"""Runs held against each other: for each network and protocol the schedules against exact training of the same seeds,
and which of them is accurate first. What is said of it, and in what order, is in runs.md.jinja."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, NamedTuple

from approxtrain.errors import ConfigError
from approxtrain.paper.experiments import is_exact, method_of
from approxtrain.report import figures
from approxtrain.report.document import Document, Report
from approxtrain.report.estimates import Estimate, columns, estimate, proportion
from approxtrain.report.inputs import Inputs
from approxtrain.report.selection import Protocol, RowRuns, Selection, by_seed
from approxtrain.report.timing import elapsed, machine, step_ratios, step_seconds, timed
from approxtrain.run.archive import ELSEWHERE, Archive
from approxtrain.run.curves import schedule_title

LESS = 0.5
"""Points below the best accuracy of exact training: who gets there first was best for the time."""
WORDS = 2
"""Values that a row's label names at most to tell it from others."""


class Result(NamedTuple):
    """What a schedule came to: the numbers of `RowRuns.numbers`, and its seconds, None where they are not known."""

    runs: RowRuns
    numbers: dict[str, Estimate | None]

    @property
    def record(self) -> dict[str, Any]:
        """The row in the columns of a CSV."""
        return {"schedule": self.runs.name, **self.runs.record, **columns(self.numbers)}


class Group(NamedTuple):
    """The schedules of one network and protocol."""

    selection: Selection
    results: list[Result]
    threshold: float | None
    """Percent: LESS below the best of the exact runs, of the worst of these, so that each reaches it; where none
    finished, of the most accurate schedule's. None where nothing finished."""
    best: Result | None
    """The schedule with the shortest mean time to the threshold, of those whose every run got there."""
    alone: list[int]
    """Seeds that finished under a schedule and not exactly."""
    noise: tuple[int, Estimate] | None
    """Images that an accuracy is counted on, and an accuracy with the 95 % interval that this leaves it, in percent."""

    @property
    def one_seed(self) -> bool:
        """Whether the best, or all that it was held against, has one seed, which says nothing about others."""
        counts = [len(result.runs.finished) for result in self.results if result is not self.best]
        return self.best is not None and (len(self.best.runs.finished) == 1 or max(counts, default=0) == 1)


def compose(inputs: Inputs) -> Report:
    """All that can be said of what was given, the group with most runs first."""
    begun = [run for run in inputs.archives if run.data]
    if not begun:
        raise ConfigError("no run here has begun; measurements alone are reported with --paper.")
    found: dict[tuple[str, Protocol], list[Archive]] = {}
    for run in begun:
        found.setdefault((json.dumps(run.config["model"], sort_keys=True), Protocol.of(run)), []).append(run)
    ordered = sorted(found.items(), key=lambda item: -sum(run.status == "finished" for run in item[1]))
    models = [json.loads(model) for (model, _), _ in ordered]
    titles = [f"{model['name']} on {protocol.title}" for model, ((_, protocol), _) in zip(models, ordered, strict=True)]
    details = [{**protocol.values, "model": model} for model, ((_, protocol), _) in zip(models, ordered, strict=True)]
    titles = _told_apart(titles, details)
    groups = []
    for number, (((_, protocol), runs), title) in enumerate(zip(ordered, titles, strict=True), start=1):
        model = runs[0].config["model"]["name"]
        name = re.sub(r"[^\w.-]+", "-", model) + (f"-{number}" if len(ordered) > 1 else "")
        groups.append(_group(Selection(name, title, model, protocol, _rows(runs))))
    left_out = [*inputs.left_out, *(each for group in groups for row in group.selection.rows for each in row.left_out)]
    context = {"groups": groups, "left_out": left_out, "figures": figures, "LESS": LESS}
    document = Document("runs.md.jinja", context)
    conclusion = document.markdown.partition("\n## ")[0].partition("\n\n")[2].strip().replace("**", "")
    facts = {
        "protocol": {group.selection.name: group.selection.protocol.values for group in groups},
        "best": {group.selection.name: group.best.runs.name if group.best else None for group in groups},
        "left_out": [asdict(each) for each in left_out],
    }
    return Report(document, conclusion, [run for group in groups for run in group.selection.archives], facts)


def _rows(runs: Sequence[Archive]) -> list[RowRuns]:
    """A row a schedule, the exact one first: it is there without runs, too."""
    found: dict[str, list[Archive]] = {"{}": []}
    for run in runs:
        schedule = {key: value for key, value in run.config["schedule"].items() if key not in ELSEWHERE["schedule"]}
        found.setdefault("{}" if is_exact(run.config) else json.dumps(schedule, sort_keys=True), []).append(run)
    schedules = [json.loads(key) for key in found]
    titles = ["full", *map(schedule_title, schedules[1:])]
    labels = _labels(titles, schedules, [min((run.name for run in of_row), default="") for of_row in found.values()])
    methods = ["full", *(method_of({"schedule": schedule}) for schedule in schedules[1:])]
    rows = zip(labels, methods, found.values(), strict=True)
    return [RowRuns(label, label, method, "", *by_seed(of_row)) for label, method, of_row in rows]


def _group(selection: Selection) -> Group:
    exact, rows = selection.full.accuracies("best"), [row.accuracies("best") for row in selection.rows if row.finished]
    base = exact or max(rows, key=lambda row: fmean(row.values()), default={})
    threshold = min(base.values()) - LESS if base else None
    results = [Result(runs, _numbers(selection, runs, threshold)) for runs in selection.rows]
    times = [(each.numbers["seconds_to_threshold"], each) for each in results]
    there = [(time.mean, each) for time, each in times if time and time.n == len(each.runs.runs)]
    best = min(there, key=lambda pair: pair[0])[1] if there else None
    summaries = (run.summary for run in selection.archives)
    counted = [(one["validation_images"], one["best_accuracy"]) for one in summaries if "validation_images" in one]
    noise = [(images, proportion(accuracy, images)) for images, accuracy in counted[:1]]
    alone = sorted({seed for row in rows for seed in row} - exact.keys())
    return Group(selection, results, threshold, best, alone, noise[0] if noise else None)


def _numbers(selection: Selection, runs: RowRuns, threshold: float | None) -> dict[str, Estimate | None]:
    here = timed(selection, runs)
    times = {seed: found for seed, run in here.items() if (found := elapsed(run))}
    reached: dict[int, float] = {}
    for seed in times:
        for row in here[seed].epochs:
            if threshold is not None and 100 * row.get("validation_accuracy", 0) >= threshold:
                reached.setdefault(seed, times[seed][row["epoch"]])
    return {
        **runs.numbers(selection.full),
        "step_seconds": estimate([taken for run in here.values() if (taken := step_seconds(run))]),
        "step_over_full": estimate(step_ratios(runs, selection.full, machine)),
        "training_seconds": estimate([max(each.values()) for each in times.values()]),
        "seconds_to_threshold": estimate(list(reached.values())),
    }


def _labels(titles: Sequence[str], schedules: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The titles of schedules; behind those that are alike what differs in a few words, else the name of a run."""
    differences = _differences(titles, schedules)
    short = [
        ", ".join([title, *(f"{re.sub(r'^rules[.][0-9]+[.]', '', key)} {value:.12}" for key, value in differs.items())])
        for title, differs in zip(titles, differences, strict=True)
    ]
    long = {title for title, differs in zip(titles, differences, strict=True) if len(differs) > WORDS}
    return [
        f"{title} ({name})" if title in long or short.count(label) > 1 else label
        for label, title, name in zip(short, titles, names, strict=True)
    ]


def _told_apart(titles: Sequence[str], details: Sequence[Mapping[str, Any]]) -> list[str]:
    """The titles; behind those that are alike what differs in their details."""
    differences = _differences(titles, details)
    return [
        ", ".join([title, *(f"{key} {value:.12}" for key, value in differs.items())])
        for title, differs in zip(titles, differences, strict=True)
    ]


def _differences(titles: Sequence[str], details: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Of each what another of the same title has not, or has otherwise, by dotted keys."""
    items = [dict(_flat(each)) for each in details]
    found = []
    for title, own in zip(titles, items, strict=True):
        alike = [other for same, other in zip(titles, items, strict=True) if same == title]
        found.append({key: value for key, value in own.items() if any(other.get(key) != value for other in alike)})
    return found


def _flat(table: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The values of nested tables and lists, by dotted keys."""
    if isinstance(table, dict | list):
        for key, value in table.items() if isinstance(table, dict) else enumerate(table):
            yield from _flat(value, f"{path}.{key}")
    else:
        yield path[1:], f"{table:g}" if isinstance(table, float) else str(table)
