"""The page of lost processes is what is rendered of its JSON."""

from __future__ import annotations

import pytest

from tools import lost


def test_the_page_is_what_is_rendered():
    assert lost.PART.shown == lost.page()


BOUNDS = {0.0: "the same bits", 1.4e-7: "within 2e-7", 2e-3: "within 2e-3", 9.6e-7: "within 1e-6"}


@pytest.mark.parametrize("difference", BOUNDS)
def test_a_difference_is_told_by_a_bound_above_it(difference):
    assert lost.words(difference) == BOUNDS[difference]
