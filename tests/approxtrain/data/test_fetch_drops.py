"""Mirrors that send drop by drop, which are never silent for long: they are left all the same."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from approxtrain.data import fetch
from tests.approxtrain.data.mirrors import Server, whole


def test_the_next_mirror_is_tried_after_headers_that_come_drop_by_drop(tmp_path, server: Server, archive) -> None:
    tired = threading.Event()

    def drop(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for letter in b"X-Never: " + b"x" * 40:
            request.wfile.write(bytes([letter]))
            if tired.wait(0.1):
                break

    server.answers |= {"bad": drop, "good": whole(archive)}
    said: list[str] = []
    patience = fetch.Patience(silence=2.0, head=0.3)
    path = fetch.fetch(tmp_path, mirrors=server.urls("bad", "good"), patience=patience, say=said.append)
    tired.set()
    assert path.read_bytes() == archive
    assert said[1] == "it did not answer within 0.3 s: trying the next mirror"


@pytest.mark.parametrize("place", ["length", "ending"])
def test_the_next_mirror_is_tried_after_a_body_whose_chunks_come_drop_by_drop(tmp_path, server, archive, place) -> None:
    tired = threading.Event()

    def drop(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        request.wfile.write(b"2\r\n\x1f\x8b\r\n" if place == "length" else b"2\r\n\x1f\x8b\r\n0\r\n")
        for letter in b"0" * 40 if place == "length" else b"X-Never: " * 40:
            if tired.wait(0.1):
                break
            request.wfile.write(bytes([letter]))

    server.answers |= {"bad": drop, "good": whole(archive)}
    patience = fetch.Patience(silence=2.0, window=0.3)
    begin = time.monotonic()
    path = fetch.fetch(tmp_path, mirrors=server.urls("bad", "good"), patience=patience)
    assert time.monotonic() - begin < 3
    tired.set()
    assert path.read_bytes() == archive


def test_an_archive_that_comes_in_chunks_is_fetched(tmp_path, server: Server, archive: bytes) -> None:
    def chunked(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(archive), 50_000):
            part = archive[start : start + 50_000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        request.wfile.write(b"0\r\n\r\n")

    server.answers["good"] = chunked
    assert fetch.fetch(tmp_path, mirrors=server.urls("good")).read_bytes() == archive
