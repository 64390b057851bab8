"""Downloading, against a server on this machine that breaks in the ways that real mirrors break."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from approxtrain.data import cifar, cifar_layouts, fetch
from approxtrain.errors import ConfigError, DataError
from tests.approxtrain.data.mirrors import Server, dripping, failing, plain, redirecting, silent, whole

QUICK = fetch.Patience(silence=2.0, window=0.5, speed=20_000.0, last_speed=1.0)


def run(tmp_path: Path, server: Server, *names: str, **options) -> Path:
    return fetch.fetch(tmp_path / "data", mirrors=server.urls(*names), patience=QUICK, **options)


def test_the_archive_is_verified_and_takes_its_name_at_the_end(tmp_path, server: Server, archive: bytes) -> None:
    server.answers["good"] = whole(archive)
    seen: list[tuple[int, int]] = []
    path = run(tmp_path, server, "good", progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "data" / "cifar10" / "cifar-10-binary.tar.gz"
    assert path.read_bytes() == archive
    assert seen[-1] == (len(archive), len(archive))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_archive_that_is_there_is_not_fetched_again(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.answers["good"] = whole(archive)
    assert run(tmp_path, server, "good") == run(tmp_path, server, "good")
    assert len(server.requests) == 1


def test_a_broken_download_is_continued_by_the_next_mirror(tmp_path, server: Server, archive: bytes) -> None:
    server.answers["broken"] = plain(archive[:70_000], promised=len(archive))
    server.answers["good"] = whole(archive)
    assert run(tmp_path, server, "broken", "good").read_bytes() == archive
    assert server.requests == [("broken", None), ("good", "bytes=70000-")]


def test_wrong_bytes_of_one_mirror_do_not_spoil_the_next(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.answers |= {
        "bad": plain(b"\x1f\x8b" + b"0" * 5_000, promised=len(archive)),
        "good": whole(archive),
    }
    assert run(tmp_path, server, "bad", "good").read_bytes() == archive
    assert server.requests == [("bad", None), ("good", "bytes=5002-"), ("good", None)]


def test_a_second_run_continues_where_the_first_stopped(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.answers["mirror"] = plain(archive[:70_000], promised=len(archive))
    with pytest.raises(DataError, match="70,000 of"):
        run(tmp_path, server, "mirror")
    server.answers["mirror"] = whole(archive)
    assert run(tmp_path, server, "mirror").read_bytes() == archive
    assert server.requests[-1] == ("mirror", "bytes=70000-")


def test_a_mirror_without_ranges_starts_from_the_beginning(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.answers |= {"broken": plain(archive[:70_000], promised=len(archive)), "plain": plain(archive)}
    assert run(tmp_path, server, "broken", "plain").read_bytes() == archive


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failing, "503"),
        pytest.param(silent, "timed out", marks=pytest.mark.gate),
        (plain(b"<html><title>Moved</title></html>"), "a web page or another file"),
        (plain(b""), "a web page or another file"),
        (plain(b"\x1f\x8b" + b"0" * 500_000), "its SHA-256 is"),
        (dripping(b"\x1f\x8b" + b"0" * 20_000, pause=0.1), "kB/s is too slow"),
    ],
    ids=["503", "silence", "web page", "nothing", "wrong bytes", "slow"],
)
def test_the_next_mirror_is_tried_after(tmp_path, server: Server, archive: bytes, answer, reason: str) -> None:
    server.answers |= {"bad": answer, "good": whole(archive)}
    said: list[str] = []
    path = run(tmp_path, server, "bad", "good", say=said.append)
    assert path.read_bytes() == archive
    assert reason in said[1]


@pytest.mark.parametrize(
    "target", ["http://[::1/", "http://a..b/", "http://127.0.0.1:port/", "ftp:x", "file:///dev/zero"]
)
def test_the_next_mirror_is_tried_after_a_redirect_to_nowhere(tmp_path, server: Server, archive: bytes, target) -> None:
    server.answers |= {"bad": redirecting(target), "good": whole(archive)}
    assert run(tmp_path, server, "bad", "good").read_bytes() == archive


def test_of_several_that_fetch_at_once_one_downloads_and_the_others_wait(tmp_path, server: Server, archive) -> None:
    others_wait = threading.Semaphore(0)

    def answer(request: BaseHTTPRequestHandler) -> None:
        for _ in range(2):
            others_wait.acquire(timeout=1.0)
        whole(archive)(request)

    def say(text: str) -> None:
        if "another process is downloading" in text:
            others_wait.release()

    server.answers["good"] = answer
    with ThreadPoolExecutor() as pool:  # a lock is of an open folder: threads stand in for processes
        paths = {each.result() for each in [pool.submit(run, tmp_path, server, "good", say=say) for _ in range(3)]}
    (path,) = paths
    assert path.read_bytes() == archive
    assert server.requests == [("good", None)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_one_that_fails_lets_the_next_one_go_on_where_it_stopped(tmp_path, server: Server, archive: bytes) -> None:
    waiting = threading.Event()
    turns = iter([plain(archive[:70_000], promised=len(archive)), whole(archive)])

    def answer(request: BaseHTTPRequestHandler) -> None:
        waiting.wait(1.0)
        next(turns)(request)

    server.answers["mirror"] = answer
    with ThreadPoolExecutor() as pool:
        ends = [
            pool.submit(run, tmp_path, server, "mirror", say=lambda text: "waiting" in text and waiting.set())
            for _ in range(2)
        ]
    assert sorted(type(end.exception()).__name__ for end in ends) == ["DataError", "NoneType"]
    assert server.requests == [("mirror", None), ("mirror", "bytes=70000-")]


def test_slow_mirrors_get_a_second_turn_when_no_other_delivers(tmp_path, server: Server, archive: bytes) -> None:
    turns = iter([dripping(archive, pause=0.1), whole(archive)])
    server.answers |= {"slow": lambda request: next(turns)(request), "failing": failing}
    assert run(tmp_path, server, "slow", "failing").read_bytes() == archive
    assert [name for name, _ in server.requests] == ["slow", "failing", "slow"]
    assert server.requests[-1][1] is not None  # what had come slowly was kept


def test_when_no_mirror_delivers_each_answer_is_told(tmp_path: Path, server: Server, archive: bytes) -> None:
    server.answers |= {"failing": failing, "wrong": plain(b"\x1f\x8b" + b"0" * len(archive))}
    with pytest.raises(DataError) as error:
        run(tmp_path, server, "failing", "wrong")
    for part in ("/failing/", "503", "/wrong/", "SHA-256", "approxtrain data import FILE"):
        assert part in str(error.value)
    assert list((tmp_path / "data" / "cifar10").iterdir()) == []


def test_a_host_that_does_not_answer_is_a_data_error(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(DataError, match="No mirror delivered"):
        fetch.fetch(tmp_path, mirrors=(f"http://127.0.0.1:9/{cifar_layouts.BINARY.archive}",), patience=QUICK)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_every_mirror_serves_one_of_the_two_official_archives(name: str) -> None:
    names = {layout.archive for layout in cifar.LAYOUTS if layout.dataset == name}
    assert {url.rsplit("/", 1)[1] for url in fetch.MIRRORS[name]} == names
    assert all(url.startswith("https://") for url in fetch.MIRRORS[name])


def test_what_has_no_mirror_is_an_error_that_says_what_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cifar10 and cifar100"):
        fetch.fetch(tmp_path, name="imagenet")


def test_what_a_mirror_sends_does_not_reach_the_terminal_as_it_is(tmp_path: Path, server: Server, archive) -> None:
    server.answers["hostile"] = lambda request: request.send_error(404, "\x1b[2J\x07gone\x9b1m" + "!" * 1000, "")
    said: list[str] = []
    with pytest.raises(DataError, match="gone") as error:
        fetch.fetch(tmp_path / "data", mirrors=server.urls("hostile"), say=said.append)
    for text in (said[1], *str(error.value).splitlines()):
        assert text.isprintable()
        assert len(text) < 450
    assert r"\x1b[2J\x07gone\x9b1m!" in said[1]
