"""How numbers are written in a report's text and cells."""

from __future__ import annotations

from approxtrain.report.statistics import Estimate

NOTHING = "–"
"""Where there is no number."""


def counted(number: int, noun: str) -> str:
    """ "1 epoch", "3 epochs" """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def decimal(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """With a true minus sign, and a plus where it is above nought."""
    if value is None:
        return NOTHING
    text = f"{value:+.{digits}f}"
    return (f"{0:.{digits}f}" if float(text) == 0 else text).replace("-", "−")


def interval(found: Estimate | None, *, sign: bool = False, digits: int = 2) -> str:
    """ "91.30 ± 0.21", "91.30 (n = 1)": a single value has no interval, and says so."""
    if found is None:
        return NOTHING
    half = " (n = 1)" if found.half_width is None else f" ± {found.half_width:.{digits}f}"
    mean = signed(found.mean, digits) if sign else f"{found.mean:.{digits}f}"
    return f"{mean}{half}"
