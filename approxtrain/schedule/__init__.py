"""Approximation schedules: which layer uses which method at which step. Imports no jax.

`ScheduleConfig` is what the TOML says, `Schedule` the table that training follows, `named()` the catalogue.
"""

from approxtrain.schedule.config import ScheduleConfig
from approxtrain.schedule.named_schedules import named
from approxtrain.schedule.schedule import Column, Schedule

__all__ = ["Column", "Schedule", "ScheduleConfig", "named"]
