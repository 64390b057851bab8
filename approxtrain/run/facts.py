"""What a checkpoint records of its run besides arrays: its configuration, data and machine, and what it has decided.

It is the `meta` that `checkpoint.save` stores. The seal of a checkpoint is a checksum and no signature, so what comes
back is looked at as if anybody had written it: each fact is of its type, or the checkpoint is refused. Imports no jax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from approxtrain.errors import CheckpointError
from approxtrain.run import checkpoint
from approxtrain.run.record import Written
from approxtrain.run.summary import rank


class Images(TypedDict):
    """What is needed to use the network without its data set."""

    classes: list[str]
    image_shape: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=3, max_length=3)]
    mean: list[float]
    std: list[float]
    """Of each channel, in units of the uint8 pixels."""


class Best(TypedDict):
    """The best validation so far, as `summary.rank` has it; of several seeds by their means."""

    step: int
    accuracy: float
    loss: NotRequired[float | None]
    """None where it was not finite; missing in the checkpoints of earlier programs."""


Origins = dict[str, dict[str, str]]
"""Of code of the user's own, by its key of the configuration: where it is from (`models.target.origin`)."""


def _with_names(data: dict[str, str]) -> dict[str, str]:
    if missing := {"name", "sha256"} - data.keys():
        raise ValueError(f"has no {' and no '.join(sorted(missing))}")
    return data


def _with_epochs(config: dict[str, Any]) -> dict[str, Any]:
    train = config.get("train")
    if not isinstance(train, dict) or type(train.get("epochs")) is not int:
        raise ValueError("has no train.epochs")
    return config


class Facts(NamedTuple):
    """What a checkpoint records of its run besides its arrays and rows."""

    config: Annotated[dict[str, Any], AfterValidator(_with_epochs)]
    data: Annotated[dict[str, str], AfterValidator(_with_names)]
    """`name` and `sha256`, and which images validate."""
    environment: dict[str, Any]
    trajectory: int
    """That of the whole run, by whatever programs."""
    images: Images
    chunk: Annotated[int, Field(gt=0)] | None = None
    """Steps a call, where the run has decided them itself."""
    best: Best | None = None
    plateau: Annotated[int, Field(ge=0)] | None = None
    """The step from which on every layer is exact, once the run has found its plateau (`schedule.until_plateau`)."""
    origins: Origins | None = None

    def after_validation(self, step: int, accuracy: float, loss: float) -> Facts:
        best = self.best
        if best and rank(accuracy, loss) <= rank(best["accuracy"], best.get("loss", loss)):
            return self
        return self._replace(best={"step": step, "accuracy": accuracy, "loss": loss if math.isfinite(loss) else None})

    def on_a_plateau(self, step: int, patience: int | None, steps_between: int) -> bool:
        """Whether at the validation after `step` steps, `patience` of them or more, `steps_between` steps apart, have
        brought no better one; once, and never where the patience is None."""
        if patience is None or self.plateau is not None or self.best is None:
            return False
        return step - self.best["step"] >= patience * steps_between


_FACTS, _WRITTEN = TypeAdapter(Facts), TypeAdapter(Written)


def to_meta(facts: Facts, written: Written) -> dict[str, Any]:
    """As JSON holds it, for `checkpoint.save`."""
    return {**facts._asdict(), "rows": written}


def of_meta(meta: Mapping[str, Any], folder: Path) -> tuple[Facts, Written]:
    """What a checkpoint in `folder` says, in `to_meta`'s form. CheckpointError where something is missing, or no such
    thing."""
    wrong: list[str] = []

    def checked(kind: TypeAdapter[Any], value: Any, where: list[str], *, strict: bool) -> Any:
        try:
            return kind.validate_python(value, strict=strict)
        except ValidationError as error:
            wrong.extend(f"{'.'.join(map(str, [*where, *each['loc']]))}: {each['msg']}" for each in error.errors())

    # not strict, because JSON has no tuples
    written = checked(_WRITTEN, meta.get("rows"), ["rows"], strict=False)
    found = checked(_FACTS, {name: value for name, value in meta.items() if name != "rows"}, [], strict=True)
    if wrong:
        raise CheckpointError(
            f"The checkpoint in `{folder}` was not written by approxtrain, or by another version of it: "
            f"{'; '.join(wrong)}. Nothing was changed. Bring it back from a backup, or start again with another --out."
        )
    return found, written


def latest(folder: Path) -> Facts | None:
    """Those of the newest checkpoint in `folder` whose meta.json is whole; None where there is none."""
    meta = checkpoint.latest_meta(folder)
    return None if meta is None else of_meta(meta, folder)[0]
