"""A socket on which words travel, one a line."""

from __future__ import annotations

import select
import selectors
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

from worker.errors import UnfinishedError
from worker.ranks.words import MOST, Word, decode, encode

SEND_S = 60.0
"""who does not read for so long is lost"""
QUIET_S, KNOCK_S, KNOCKS = 30, 10, 3
"""a machine that lost its power says no goodbye: after so long it is asked whether it is there, so often"""


class Readable(Protocol):
    def fileno(self) -> int: ...


T = TypeVar("T", bound=Readable)


def ready(those: Sequence[T], seconds: float) -> list[T]:
    """Those of them that have something to say, as soon as one has."""
    with selectors.DefaultSelector() as selector:
        for one in those:
            selector.register(one, selectors.EVENT_READ, one)
        return [key.data for key, _ in selector.select(seconds)]


def far(socket_: socket.socket) -> Channel:
    """To another machine."""
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, QUIET_S),
        (socket.TCP_KEEPINTVL, KNOCK_S),
        (socket.TCP_KEEPCNT, KNOCKS),
        (socket.TCP_USER_TIMEOUT, 1000 * (QUIET_S + KNOCKS * KNOCK_S)),
    ):
        socket_.setsockopt(socket.IPPROTO_TCP, option, value)
    return Channel(socket_)


class Channel:
    """Any thread may send; one reads."""

    def __init__(self, socket_: socket.socket) -> None:
        self._socket = socket_
        self._socket.settimeout(None)
        self._sending = threading.Lock()
        self._rest = b""
        self._read: deque[Word] = deque()
        self.ended = False
        """the other side is gone, and all that it said was read"""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, word: Word) -> bool:
        """False: nobody is there any more."""
        data = memoryview(encode(word))
        try:
            with self._sending:
                while data:
                    if not select.select([], [self._socket], [], SEND_S)[1]:
                        return False
                    data = data[self._socket.send(data, socket.MSG_DONTWAIT) :]
        except (OSError, ValueError):
            return False
        return True

    def receive(self) -> Word | None:
        """The next word, waited for; None: there is none to come."""
        while not self._read and not self.ended:
            self._fill()
        return self._read.popleft() if self._read else None

    def arrived(self) -> list[Word]:
        """All that is there by now."""
        if not self.ended and ready([self], 0):
            self._fill()
        words = list(self._read)
        self._read.clear()
        return words

    def next(self) -> Word | None:
        """One that is there by now."""
        if not self._read and not self.ended and ready([self], 0):
            self._fill()
        return self._read.popleft() if self._read else None

    def close(self) -> None:
        self._socket.close()

    def _fill(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST:
            raise UnfinishedError("a word between processes has no end")
        self._read += map(decode, lines)
