"""A GPU manager in a process of its own, and clients that survive its death."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
API = "api/v1/gpu"


class Server:
    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", "worker", "gpus", "serve", "--port", str(self.port), *options]
        self._folder = folder
        self._env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.url = f"http://127.0.0.1:{self.port}/{API}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, cwd=self._folder, env=self._env, stderr=subprocess.PIPE, text=True
        )

    def wait(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.communicate()
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not become ready")

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        self.process.communicate(timeout=30)
        return self.process.returncode


class Client:
    """Allocates, renews, and gives back or dies; asks again under the same key when the server was away."""

    def __init__(self, url: str, number: int, hold_s: float = 0.2) -> None:
        self._hold_s = hold_s
        self._url = url
        self._luck = random.Random(number)
        self._number = number
        self.stopping = threading.Event()
        self.held: list[tuple[str, float, float]] = []
        """(card, from, until): it surely was ours"""
        self.served = 0
        self.operations = 0
        """that were answered"""

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self.stopping.is_set():
                self._serve(client)

    def _serve(self, client: httpx.Client) -> None:
        key = f"{self._number}-{self.served}"
        asked = {"gpu_count": self._luck.randint(1, 4), "lease_s": 4, "wait_s": 20}
        made = self._ask(client, "POST", "allocate", json=asked, headers={"Idempotency-Key": key})
        self.served += 1
        if made is None:
            return
        name, cards = made["allocation_id"], made["gpu_config"]["cards"]
        began = time.monotonic()
        time.sleep(self._luck.uniform(0.0, self._hold_s))
        if self._luck.random() < 0.3:
            self._ask(client, "POST", f"allocations/{name}/renew")
        until = time.monotonic()
        if self._ask(client, "GET", f"allocations/{name}"):
            self.held += [(card["uuid"], began, until) for card in cards]
        if self._luck.random() < 0.9:
            self._ask(client, "DELETE", f"allocations/{name}")

    def _ask(self, client: httpx.Client, method: str, path: str, **more: Any) -> dict[str, Any] | None:
        while True:
            try:
                answer = client.request(method, f"{self._url}/{path}", **more)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code != 503:
                self.operations += 1
                told: dict[str, Any] = answer.json()
                return told if answer.status_code == 200 else None
            time.sleep(0.05)


def overlaps(held: Sequence[tuple[str, float, float]]) -> list[tuple[str, float]]:
    found = []
    last: dict[str, float] = {}
    for card, began, until in sorted(held, key=lambda one: one[1]):
        if began < last.get(card, 0.0):
            found.append((card, began))
        last[card] = max(until, last.get(card, 0.0))
    return found
