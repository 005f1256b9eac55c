"""A counter before a blob or queue service: every request of every process, as a bill would see it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Tally:
    calls: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    """bytes of bodies"""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, kind: str, sent: int, received: int) -> None:
        with self._lock:
            self.calls[kind] += 1
            self.sent += sent
            self.received += received

    def clear(self) -> None:
        with self._lock:
            self.calls.clear()
            self.sent = self.received = 0

    @property
    def total(self) -> int:
        return sum(self.calls.values())


@contextmanager
def counting(port: int) -> Iterator[tuple[int, Tally]]:
    """→ the port to use instead of this one, and the tally"""
    tally = Tally()

    class Counted(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.service = HTTPConnection("127.0.0.1", port, timeout=60)

        def finish(self) -> None:
            self.service.close()
            super().finish()

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.service.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                self.service.putheader(name, value)
            self.service.endheaders(body or None)
            answer = self.service.getresponse()
            content = answer.read()
            tally.add(kind(self.command, self.path, dict(self.headers)), len(body), len(content))
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1]), tally
    finally:
        server.shutdown()
        server.server_close()


def kind(method: str, path: str, headers: dict[str, str]) -> str:
    if "comp=list" in path:
        return "list"
    if method == "PUT" and any(name.lower() == "if-none-match" for name in headers):
        return "create"
    return {"PUT": "overwrite", "POST": "send"}.get(method, method.lower())
