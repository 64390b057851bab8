"""A method of another package: that of docs/methods.md, named by an entry point, through the commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from approxtrain_kernels import methods

PAGE = (Path(__file__).parents[2] / "docs/methods.md").read_text("utf-8")
CODE, TOML = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("python", "toml"))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(code, entry)`: a package with that module, as pip leaves it, found by this process."""

    def install(code: str, entry: str) -> None:
        (tmp_path / "coinflip.py").write_text(code)
        info = tmp_path / "coinflip-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coinflip\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{methods.GROUP}]\n{entry}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        methods.all_methods.cache_clear()

    yield install
    sys.modules.pop("coinflip", None)
    methods.all_methods.cache_clear()


@pytest.fixture
def coinflip(install):
    assert CODE
    assert TOML
    assert f'[project.entry-points."{methods.GROUP}"]' in TOML[1]
    install(CODE[1], TOML[1].splitlines()[-1].replace('"', ""))


def test_it_is_listed_and_drawn(coinflip, call):
    listed = call("ls", "methods")
    assert "coinflip" in listed.out
    shown = call("schedule-show", "quickstart", 'schedule={ rules = [{ method = "coinflip", params = { p = 0.25 } }] }')
    assert (shown.code, "coinflip(p=0.25)" in shown.out) == (0, True)
    wrong = call("schedule-show", "quickstart", 'schedule={ rules = [{ method = "coinflip", params = { p = 2 } }] }')
    assert (wrong.code, "must be above 0 and at most 1" in wrong.err) == (2, True)


@pytest.mark.gate
def test_it_is_checked_and_timed(coinflip, call):
    found = call("bench-kernel", "--method", "coinflip", "--shapes", "8,6,6,3,4,3,1", "--rounds", "8")
    assert (found.code, found.err) == (0, "")


@pytest.mark.parametrize(
    ("code", "entry", "said"),
    [
        ("", "coinflip = coinflip:CoinFlip", "cannot be imported: AttributeError"),
        ("1 / 0", "coinflip = coinflip:CoinFlip", "cannot be imported: ZeroDivisionError"),
        ("CoinFlip = 3", "coinflip = coinflip:CoinFlip", "is no class derived from approxtrain_kernels.Method"),
        (
            "from approxtrain_kernels.methods.zero import Zero as CoinFlip",
            "coinflip = coinflip:CoinFlip",
            "is called 'zero', as another method is",
        ),
    ],
)
def test_what_is_none_is_named_with_its_package(code, entry, said, install, call):
    install(code, entry)
    ended = call("ls", "methods")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "of coinflip," in ended.err
