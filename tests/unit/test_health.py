"""A container is well while its worker is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.servers import free_port
from tests.workers import eventually
from worker import health

UP = 'worker_up{device="cpu",member="1",worker="488733ab"} 1.0\n'
DOWN = 'worker_up{device="cpu",member="2",worker=""} 0.0\n'


@pytest.mark.parametrize(
    ("metrics", "state", "says"),
    [
        (None, "S", ""),
        (UP, "S", ""),
        (UP + DOWN, "S", ""),
        ("", "S", ""),
        (DOWN, "S", "no working process is up"),
        (UP, "T", "the worker's process is stopped"),
        (None, "Z", "the worker's process is dead"),
    ],
)
def test_what_is_wrong_is_said(metrics: str | None, state: str, says: str) -> None:
    assert health.ills(metrics, state) == says


def test_a_stopped_process_is_told_from_a_waiting_one() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    place = Path(f"/proc/{process.pid}")
    try:
        eventually(lambda: health.state_of(place) == "S")
        os.kill(process.pid, signal.SIGSTOP)
        eventually(lambda: health.state_of(place) == "T")
    finally:
        process.kill()
        process.communicate()


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(DOWN.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metrics)
    Thread(target=server.serve_forever, daemon=True).start()
    yield str(server.server_port)
    server.shutdown()
    server.server_close()


def test_the_worker_itself_is_asked(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_METRICS", port)
    assert health.main() == 1
    assert capsys.readouterr().out == "no working process is up\n"


def test_one_that_does_not_listen_yet_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_METRICS", str(free_port()))
    assert health.main() == 0
