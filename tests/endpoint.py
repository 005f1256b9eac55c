"""An OpenAI-compatible server of one's own on a free port: it answers, or misbehaves, as a test says."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import cv2
import numpy as np

from worker.media.rgb import Rgb


@dataclass(frozen=True)
class Call:
    """One request that came in."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    at: float
    """by time.monotonic"""

    @property
    def parts(self) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = self.body["messages"][0]["content"]
        return content

    @property
    def prompt(self) -> str:
        text: str = self.parts[-1]["text"]
        return text

    @property
    def times(self) -> list[str]:
        """What was said before each picture."""
        return [part["text"] for part in self.parts[:-1:2]]

    @property
    def jpegs(self) -> list[bytes]:
        urls = [part["image_url"]["url"] for part in self.parts[1:-1:2]]
        return [base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True) for url in urls]

    @property
    def frames(self) -> list[Rgb]:
        found: list[Any] = [
            cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in self.jpegs
        ]
        assert all(one is not None for one in found)
        return [one[..., ::-1] for one in found]

    @property
    def is_small(self) -> bool:
        """What the engine asks to see whether all is well."""
        return "Is this picture gray?" in self.prompt


Turn: TypeAlias = "Callable[[Call, Handler], None]"


@dataclass
class Server:
    port: int
    turns: list[Turn] = field(default_factory=list)
    """what the next calls meet, one each, the small question aside; then it answers"""
    small: Turn | None = None
    """what the small question meets each time"""
    calls: list[Call] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def asked(self) -> list[Call]:
        """All but the small questions."""
        return [call for call in self.calls if not call.is_small]

    def turn(self, call: Call) -> Turn:
        with self.lock:
            self.calls.append(call)
            if call.is_small:
                return self.small or says('{"gray": true}')
            return self.turns.pop(0) if self.turns else says()


@contextmanager
def serving() -> Iterator[Server]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    http.told = Server(http.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield http.told  # type: ignore[attr-defined]
    finally:
        http.told.over.set()  # type: ignore[attr-defined]
        http.shutdown()
        http.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def told(self) -> Server:
        told: Server = self.server.told  # type: ignore[attr-defined]
        return told

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        call = Call(self.path, dict(self.headers), json.loads(body), time.monotonic())
        turn = self.told.turn(call)
        with self.told.lock:
            self.told.busy += 1
            self.told.most_busy = max(self.told.busy, self.told.most_busy)
        try:
            turn(call, self)
        except OSError:
            self.close_connection = True  # the caller has lost patience
        finally:
            with self.told.lock:
                self.told.busy -= 1

    def send(self, status: int, body: bytes | str, kind: str = "application/json", **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


# turns


def completion(text: str | None = "yes", *, finish: str = "stop", refusal: str | None = None) -> str:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})


def says(text: str | None = None, *, after: float = 0.0, **more: str) -> Turn:
    """None: it repeats what it was asked."""

    def turn(call: Call, handler: Handler) -> None:
        handler.told.over.wait(after)
        handler.send(200, completion(f"re: {call.prompt}" if text is None else text, **more))

    return turn


def sends(status: int, body: bytes | str, kind: str = "application/json", **headers: str) -> Turn:
    return lambda _, handler: handler.send(status, body, kind, **headers)


def refuses(status: int, message: str, **more: str) -> Turn:
    """An HTTP error in OpenAI's form."""
    return sends(status, json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}}))


def limited(seconds: int, *, as_date: bool = False, status: int = 429) -> Turn:
    """Too many calls, and how long to wait; its own clock is an hour wrong."""

    def turn(_: Call, handler: Handler) -> None:
        handler.send_response_only(status)
        now = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)
        until = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
        handler.send_header("Date", format_datetime(now, usegmt=True))
        handler.send_header("Retry-After", until if as_date else str(seconds))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return turn


def hangs(_: Call, handler: Handler) -> None:
    handler.told.over.wait()


def drips(_: Call, handler: Handler) -> None:
    """A byte now and then, so that no timeout between two of them strikes."""
    content = completion().encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for n in range(len(content)):
        handler.wfile.write(content[n : n + 1])
        handler.wfile.flush()
        if handler.told.over.wait(0.1):
            return


def cuts(_: Call, handler: Handler) -> None:
    """Half of what was promised, then nothing."""
    content = completion().encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.hang_up()


def hangs_up(_: Call, handler: Handler) -> None:
    handler.hang_up()


def takes(
    *, schema: bool = True, form: bool = True, limit: str = "max_tokens", temperature: bool = True
) -> Turn:
    """Refuses what it does not know, in the words of those who do so."""

    def turn(call: Call, handler: Handler) -> None:
        other = "max_completion_tokens" if limit == "max_tokens" else "max_tokens"
        asked = call.body.get("response_format", {}).get("type")
        if other in call.body:
            said = (
                f"Unsupported parameter: '{other}' is not supported with this model. Use '{limit}' instead."
            )
        elif "temperature" in call.body and not temperature:
            said = (
                "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1)."
            )
        elif asked == "json_schema" and not schema:
            said = (
                "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
            )
        elif asked and not form:
            said = "Unrecognized request argument supplied: response_format"
        else:
            handler.send(200, completion(f"re: {call.prompt}"))
            return
        refuses(400, said)(call, handler)

    return turn
