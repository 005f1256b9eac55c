"""Servers that tests talk to: each is a real process on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from worker.queue.emulator import make_container

AZURITE = Path(__file__).parents[1] / ".cache/azurite/node_modules/azurite/dist/src/blob/main.js"
AZURITE_QUEUE = AZURITE.parents[1] / "queue/main.js"


@dataclass(frozen=True)
class Server:
    """A running store: how a process finds it, and a way to a fresh container in it."""

    env: Mapping[str, str]
    fresh: Callable[[], str]
    """makes an empty container and gives its url, such as az://test7"""
    process: subprocess.Popen[bytes]


@contextmanager
def azurite(folder: Path) -> Iterator[Server]:
    node = shutil.which("node")
    if node is None or not AZURITE.exists():
        missing("Azurite is not here; run tests/servers.sh (it needs Node.js and npm)")
    port, numbers = free_port(), count()
    command = [str(node), str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--location", str(folder), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]

    def fresh() -> str:
        name = f"test{next(numbers)}"
        make_container(f"http://127.0.0.1:{port}", name)
        return f"az://{name}"

    with running(command, port) as process:
        yield Server({"AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"}, fresh, process)


@contextmanager
def azurite_queue(folder: Path) -> Iterator[int]:
    """Azure's message queues, which only others use; → the port."""
    node = shutil.which("node")
    if node is None or not AZURITE_QUEUE.exists():
        missing("Azurite is not here; run tests/servers.sh (it needs Node.js and npm)")
    port = free_port()
    command = [str(node), str(AZURITE_QUEUE), "--queueHost", "127.0.0.1", "--queuePort", str(port)]
    command += ["--location", str(folder), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with running(command, port):
        yield port


@contextmanager
def s3() -> Iterator[Server]:
    if find_spec("moto") is None or find_spec("flask") is None:
        missing("moto[server] is not here; pip install moto[server]")
    port, numbers = free_port(), count()
    endpoint = f"http://127.0.0.1:{port}"

    def fresh() -> str:
        name = f"test{next(numbers)}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=60).close()
        return f"s3://{name}"

    env = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as process:
        yield Server(env, fresh, process)


class Door:
    """A port that leads to a server's port while it is open; shut, the server is away for its callers."""

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self._server_port = server_port
        self._sockets: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        ear = socket.create_server(("127.0.0.1", self.port))
        self._sockets = [ear]
        threading.Thread(target=self._let_in, args=(ear,), daemon=True).start()

    def shut(self) -> None:
        """Who is inside is thrown out, who knocks is refused."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _let_in(self, ear: socket.socket) -> None:
        with suppress(OSError):  # it is shut
            while True:
                caller, _ = ear.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [caller, server]
                for source, sink in ((caller, server), (server, caller)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def missing(why: str) -> None:
    """A server that is not here skips its tests on a developer's machine, and fails them in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def free_port() -> int:
    """One that a server may open, and that the system gives to nobody else for a minute.

    A connection has just been closed at that end: so it is left to who reuses addresses, as servers do."""
    with socket.create_server(("127.0.0.1", 0)) as ear, socket.create_connection(ear.getsockname()) as caller:
        ear.accept()[0].close()
        caller.recv(1)  # that end was the first to close
        return int(ear.getsockname()[1])


@contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args!r} did not open port {port}")
