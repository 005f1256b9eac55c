"""What happened lately, by number, as it goes over the wire: who was away may ask for what he missed."""

from __future__ import annotations

import json
import secrets
import threading
from collections import deque
from collections.abc import Sequence

from worker.gpus.allocation import Waiting
from worker.gpus.diary import Change
from worker.gpus.glance import Times, allocation_told, waiting_told

MOST_BYTES = 4 << 20


class Events:
    """From any thread. Nobody who reads keeps those waiting who tell."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._run = secrets.token_hex(4)
        """numbers begin anew with each process"""
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self._last = 0
        self._joined: tuple[int, int, bytes] = (0, 0, b"")

    @property
    def last(self) -> int:
        return self._last

    def name(self, number: int) -> str:
        return f"{self._run}-{number}"

    def number(self, name: str) -> int | None:
        """None: not of this process."""
        run, _, number = name.rpartition("-")
        return int(number) if run == self._run and number.isdecimal() and len(number) < 20 else None

    def tell(self, kind: str, told: object) -> None:
        data = json.dumps(told, separators=(",", ":"))
        with self._lock:
            self._last += 1
            line = f"id: {self.name(self._last)}\nevent: {kind}\ndata: {data}\n\n".encode()
            self._kept.append(line)
            self._bytes += len(line)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= len(self._kept.popleft())

    def note(self, changes: Sequence[Change]) -> None:
        times = Times.now()
        for kind, about, why in changes:
            told = waiting_told(about, times) if isinstance(about, Waiting) else allocation_told(about, times)
            self.tell(kind, told | {"why": why} if why else told)

    def since(self, number: int) -> tuple[int, bytes] | None:
        """All after this one. None: some of them are gone, or it never was."""
        with self._lock:
            missed = self._last - number
            if not 0 <= missed <= len(self._kept):
                return None
            if self._joined[:2] != (number, self._last):  # once for all who stand alike
                first = len(self._kept) - missed
                lines = b"".join(self._kept[at] for at in range(first, len(self._kept)))
                self._joined = number, self._last, lines
            return self._last, self._joined[2]
