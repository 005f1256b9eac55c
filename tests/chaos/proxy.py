"""An HTTP proxy in front of a store that refuses, breaks, slows, and loses what the store has answered."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
WITHOUT_BODY = frozenset({204, 304})
RESET = struct.pack("ii", 1, 0)
"""the linger that makes of a close a reset"""


class Fault(StrEnum):
    REFUSED = "503, and nothing is done"
    RESET = "the connection breaks before the store hears of it"
    LOST = "the store has done it, and the answer is dropped"
    DENIED = "the store has done it, and the answer is 500"
    LATE = "the connection breaks, and the store does it all the same, later"
    SLOW = "it takes a while"
    AWAY = "from now on nobody is served, for a while"


SHARES = {Fault.REFUSED: 0.01, Fault.RESET: 0.01, Fault.SLOW: 0.01, Fault.AWAY: 0.001}
OF_WRITES = {Fault.LOST: 0.03, Fault.DENIED: 0.01, Fault.LATE: 0.02}
"""who only reads loses nothing with an answer"""


@dataclass(frozen=True, slots=True)
class Lot:
    """What becomes of one request."""

    fault: Fault | None
    seconds: float


class Lots:
    """Drawn one by one from the seed; which request draws which is the timing's choice."""

    def __init__(self, seed: int, worst: float) -> None:
        self._chance = Random(seed)
        self._worst = worst
        self._lock = threading.Lock()
        self._away_until = 0.0
        self.is_on = True
        self.drawn: Counter[Fault] = Counter()

    def draw(self, now: float, *, writes: bool) -> Lot:
        with self._lock:
            if not self.is_on:
                return Lot(None, 0.0)
            shares = SHARES | OF_WRITES if writes else SHARES
            calm = 1 - sum(shares.values())
            fault = self._chance.choices([*shares, None], [*shares.values(), calm])[0]
            seconds = self._chance.uniform(0.1, self._worst)
            if fault is Fault.AWAY:
                self._away_until = now + seconds
            if now < self._away_until:
                fault = Fault.AWAY
            if fault:
                self.drawn[fault] += 1
            return Lot(fault, seconds)


@dataclass(frozen=True, slots=True)
class Proxy:
    url: str


@contextmanager
def proxy(server_port: int, lots: Lots) -> Iterator[Proxy]:
    handler = type("Handler", (_Handler,), {"server_port": server_port, "lots": lots})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A worker that was killed in the middle of its request is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_port: int
    lots: Lots

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lot = self.lots.draw(time.monotonic(), writes=self.command in ("PUT", "POST"))
        match lot.fault:
            case Fault.REFUSED:
                return self._say(503)
            case Fault.RESET | Fault.AWAY:
                return self._break()
            case Fault.LATE:
                self._break()
                time.sleep(lot.seconds)
                self._forward(body)
                return None
            case Fault.SLOW:
                time.sleep(lot.seconds)
        status, headers, answer = self._forward(body)
        if lot.fault is Fault.LOST:
            return self._break()
        if lot.fault is Fault.DENIED:
            return self._say(500)
        return self._pass_on(status, headers, answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Just as it came, for the headers and the path are signed."""
        store = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=30)
        try:
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    store.putheader(name, value)
            store.endheaders(body or None)
            answer = store.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            store.close()

    def _pass_on(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = value
        if status not in WITHOUT_BODY:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body)

    def _say(self, status: int) -> None:
        self._pass_on(status, [], b"")

    def _break(self) -> None:
        """The caller sees a reset; this thread may still have something to do."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """It is quiet."""
