"""A server on this machine that breaks in the ways that real mirrors break."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from approxtrain.data import cifar_layouts


class Server:
    """Answers /NAME/file with the behaviour registered as NAME; remembers the Range of each request."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.split("/")[1]
                outer.requests.append((name, self.headers.get("Range")))
                outer.answers[name](self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def urls(self, *names: str) -> tuple[str, ...]:
        return tuple(
            f"http://127.0.0.1:{self.http.server_port}/{name}/{cifar_layouts.BINARY.archive}" for name in names
        )


def whole(content: bytes):
    """A mirror that knows ranges."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start:])

    return answer


def plain(content: bytes, promised: int | None = None):
    """A mirror that knows no ranges; it may promise more than it sends."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(promised or len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def dripping(content: bytes, pause: float, piece: int = 1000):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for start in range(0, len(content), piece):
            try:
                request.wfile.write(content[start : start + piece])
                request.wfile.flush()
            except OSError:  # the other side hung up, as it should
                return
            time.sleep(pause)

    return answer


def failing(request: BaseHTTPRequestHandler) -> None:
    request.send_error(503)


def silent(request: BaseHTTPRequestHandler) -> None:
    time.sleep(4.0)


def redirecting(target: str):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    return answer
