"""The configuration of a run: TOML in, one frozen object out, and every problem of it in one error.

    load("cnn2-approx", ["train.epochs=3", "schedule.method=zero"])

Later wins: the defaults below, then the preset or file, then `dotted.key=value` overrides. Imports no jax.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from pydantic import ValidationError

from approxtrain import models
from approxtrain.config import explain
from approxtrain.config.sections import Config, OptimizerConfig
from approxtrain.errors import ConfigError, suggestion
from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.ranges import LARGEST

if TYPE_CHECKING:
    from approxtrain.data import ImageSet

DEFAULT_PRESET = "quickstart"
LONGEST = 2**24
"""Characters of a configuration: a file without end, such as a device, would fill the memory."""

RESUMABLE = (
    *("train.epochs", "train.checkpoint_every", "train.check", "train.verify_every", "train.trackers"),
    *("data.dir", "data.workers", "parallel.devices"),
)
"""What may change when a run is resumed: nothing that touches its steps. (Images that moved are checked by SHA-256.)"""

ENDLESS = ("constant", "exponential")
"""Courses of the learning rate that do not depend on the length of the run."""


def load(source: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration of preset or TOML file `source` (None: the quickstart), changed by `overrides`.

    Raises ConfigError with every problem found: syntax, unknown keys, wrong types and values, unknown names.
    """
    table = _read(DEFAULT_PRESET if source is None else source)
    problems = [problem for override in overrides for problem in _override(table, override)]
    try:
        config = Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(problems + explain.explain(error, Config, table)) from None
    if problems:
        raise ConfigError(problems)
    return config


def is_override(text: str) -> bool:
    """Whether an argument reads KEY=VALUE."""
    return re.match(r"[\w.-]+\s*=", text) is not None


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """[CONFIG] [KEY=VALUE]..., as a command is given them → (CONFIG or None, overrides): what `load` takes."""
    if not arguments or is_override(arguments[0]):
        return None, list(arguments)
    return arguments[0], list(arguments[1:])


def with_train(config: Config, **train: Any) -> Config:
    """`config` with other values in its [train] table."""
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def dump(config: Config) -> str:
    """TOML with every value spelled out; `load` reads it back to an equal Config."""
    return tomli_w.dumps(plain(config))


def presets() -> list[tuple[str, str]]:
    """(name, purpose) of the presets there are; the purpose is the first line of the file's header."""
    files = sorted(_preset_folder().glob("*.toml"), key=lambda file: file.stem)
    return [(file.stem, file.read_text("utf-8").partition("\n")[0].lstrip("# ")) for file in files]


def steps_per_epoch(config: Config, dataset: ImageSet | None = None) -> int:
    """Whole batches in the training set; the images left over at the end of an epoch's order are not used.

    Counted in the `dataset` of the configuration, if it is loaded already.
    """
    from approxtrain import data

    images = data.train_size(config.data) if dataset is None else len(dataset.train)
    if images < config.train.batch_size:
        raise ConfigError(
            f"`train.batch_size` (={config.train.batch_size}) must be at most the {images} training images "
            f"of {(config.data if dataset is None else dataset).name!r}."
        )
    steps = images // config.train.batch_size
    if (total := steps * config.train.epochs) > LARGEST:
        raise ConfigError(
            f"`train.epochs` (={config.train.epochs}) of {steps} steps each are {total:,} steps, and a run has at most "
            f"{LARGEST:,}: train.epochs={LARGEST // steps} or less."
        )
    return steps


def plain(config: Config) -> dict[str, Any]:
    """The configuration as nested tables, every value spelled out."""
    return _without_empty_tables(config.model_dump(mode="json", by_alias=True, exclude_none=True))


def refuse_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """ConfigError with every difference between two plain configurations but RESUMABLE; and epochs only grow."""
    old, new, epochs = dict(flat(_spelled_out(before))), dict(flat(_spelled_out(after))), "train.epochs"
    # batch norm of each device by itself, rules for some devices and copies of their own depend on how many there are
    schedule = after.get("schedule", {})
    by_number = schedule.get("local") or any("replicas" in rule for rule in schedule.get("rules", ()))
    fixed = {"parallel.devices"} if by_number or new.get("parallel.batch_norm") == "replica" else set()
    may = [key for key in RESUMABLE if key not in fixed]
    problems = [
        f"{key}: it was {old.get(key)!r} and cannot become {new.get(key)!r}; a resumed run may only change "
        f"{', '.join(may)}. For another run, start one with another --out."
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and (key not in RESUMABLE or key in fixed)
    ]
    if new[epochs] < old[epochs]:
        problems.append(
            f"{epochs}: it was {old[epochs]} and can only grow, not become {new[epochs]}: what was trained is not "
            "taken back. For a shorter run, start one with another --out."
        )
    elif new[epochs] > old[epochs] and (rate := new.get("optimizer.rate", "exponential")) not in ENDLESS:
        problems.append(
            f"{epochs}: it was {old[epochs]} and cannot become {new[epochs]}, because the learning rate of "
            f"optimizer.rate={rate} takes its course over the whole run: every step so far would have been another. "
            f"Only {' and '.join(ENDLESS)} can be trained longer: start another run with another --out."
        )
    elif new[epochs] > old[epochs] and ScheduleConfig.model_validate(after.get("schedule", {})).knows_its_end:
        problems.append(
            f"{epochs}: it was {old[epochs]} and cannot become {new[epochs]}, because the schedule has shares of the "
            "run: the steps so far would have been others."
        )
    elif new[epochs] > old[epochs] and (shares := OptimizerConfig.model_validate(after["optimizer"]).shares):
        problems.append(
            f"{epochs}: it was {old[epochs]} and cannot become {new[epochs]}, because {shares[0]} is a share of the "
            "run: the steps so far would have been others."
        )
    if problems:
        raise ConfigError(problems)


def _spelled_out(table: dict[str, Any]) -> dict[str, Any]:
    """A plain configuration with the keys that it lacks at their defaults: an earlier program did not know them all.
    What this one refuses stays as it is, and differs."""
    try:
        return plain(Config.model_validate(table))
    except ValidationError:
        return table


def flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, by dotted keys; a list is one value."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _without_empty_tables(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_empty_tables(value) for key, value in node.items() if value != {}}
    return [_without_empty_tables(item) for item in node] if isinstance(node, list) else node


def _preset_folder() -> Path:
    """`configs/` of the checkout that this file lies in; the copy inside of an installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent  # recognised by the folder that only a checkout has
    return checkout / "configs" if (checkout / "kernels/approxtrain_kernels").is_dir() else package / "presets"


def preset_text(name: str) -> str:
    """The file of a preset, with its comments. ConfigError names what there is."""
    names = [known for known, _ in presets()]
    if name not in names:
        raise ConfigError(f"no preset is called {name!r}; there are {', '.join(names)}.{suggestion(name, names)}")
    return (_preset_folder() / f"{name}.toml").read_text("utf-8")


def _read(source: str) -> dict[str, Any]:
    preset = _preset_folder() / f"{source}.toml"
    names = [name for name, _ in presets()]
    if not source:
        raise ConfigError(f"an empty text names no preset and no TOML file. The presets are {', '.join(names)}.")
    path = preset if source in names else Path(source)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise ConfigError(f"{source!r} is longer than {LONGEST:,} characters, so it is no configuration.")
        return tomllib.loads(text)
    except FileNotFoundError:
        network = source in models.names()
        hint = f" It is a network: model.name={source}." if network else suggestion(Path(source).stem, names)
        raise ConfigError(
            f"{source!r} is neither a preset nor a TOML file.{hint} The presets are {', '.join(names)}."
        ) from None
    except OSError as error:
        raise ConfigError(f"{source!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{source!r} is not a text file in UTF-8, so it is not TOML.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source!r} is not valid TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{source!r} cannot be read: its lists or tables lie too deep in each other.") from None
    except ValueError:  # Python's own, of a whole number of thousands of digits
        raise ConfigError(f"{source!r} cannot be read: a number in it has too many digits.") from None


def _override(table: dict[str, Any], text: str) -> Iterator[str]:
    """Set one `dotted.key=value` in `table`; yields what is wrong with it."""
    dotted, equals, value = text.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        yield f"{text!r} is not an override: write KEY=VALUE, such as train.epochs=3."
        return
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no text
        yield f"{text!r} is no text in UTF-8, as a configuration has to be."
        return
    node: Any = table
    for key in keys[:-1]:
        slot = _slot(node, key)
        node = None if slot is None else node.setdefault(slot, {}) if isinstance(node, dict) else node[slot]
    slot = _slot(node, keys[-1])
    if slot is None:
        yield f"`{dotted}` cannot be set: there is no table or list entry to hold it."
    else:
        node[slot] = _value(value.strip())


def _slot(node: Any, key: str) -> str | int | None:
    """`key` as a key of the table, or a position in the list, that `node` is; None where it is neither."""
    if isinstance(node, dict):
        return key
    return int(key) if isinstance(node, list) and key.isdecimal() and int(key) < len(node) else None


def _value(text: str) -> Any:
    """`text` as a TOML value, and as a plain string where it is none or cannot be read."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # also a number of thousands of digits, and lists too deep in each other
        return text
    return table["value"] if table.keys() == {"value"} else text
