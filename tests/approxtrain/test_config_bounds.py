"""Values that a type would allow, and that no run can mean."""

from __future__ import annotations

import pytest

from approxtrain import config
from approxtrain.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "optimizer.learning_rate=1e-46",
            r"`optimizer.learning_rate` \(=1e-46\) must be greater than or equal to 1e-30",
        ),
        ("optimizer.decay=1e-300", r"`optimizer.decay` \(=1e-300\) must be greater than or equal to 1e-30"),
        ("train.seeds=10000", r"`train.seeds` \(=10000\) must be less than or equal to 1000"),
    ],
)
def test_a_number_that_leads_nowhere_is_refused_with_its_bound(override, told):
    with pytest.raises(ConfigError, match=told):
        config.load("quickstart", [override])


def test_an_empty_argument_is_no_preset():
    with pytest.raises(ConfigError, match=r"an empty text names no preset and no TOML file. The presets are .*cnn2-"):
        config.load("")
