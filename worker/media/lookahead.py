"""When a packet's frame is shown, and until when, told in one pass: the next frame shown may come later in
the file, but never much later."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from av import Packet

from worker.errors import ItemError
from worker.media.film import Film

_MOST = 300
"""packets that may wait until it is clear which frame is shown next; decoders reorder 16"""


Shown: TypeAlias = tuple[float, float] | None
"""from when until when; None: never"""


class Lookahead:
    """Hands the packets on in the order of the file, each with when its frame is shown."""

    def __init__(self, film: Film) -> None:
        self.first_s = 0.0
        """when the first frame is shown; known with the first packet"""
        self.end_s = 0.0
        """when the last frame of those handed on ends"""
        self.frames = 0
        """that are shown, of those handed on"""
        self._film = film
        self._waiting: deque[tuple[int, Packet[Any]]] = deque()
        self._times: list[int] = []
        """when the frames are shown, of the waiting packets and what is shown after them; sorted"""
        self._horizon: int | None = None
        """all that is shown before was read: no packet is to be decoded later than it is shown"""

    def over(self, packets: Iterable[Packet[Any]]) -> Iterator[tuple[Packet[Any], Shown]]:
        for packet in packets:
            if packet.size:
                self._see(packet)
                while (until := self._until()) is not None and self._read_past(until):
                    yield self._next(until)
        while self._waiting:
            until = self._until()
            lasts = round(1 / self._film.rate / self._film.base)
            yield self._next(self._waiting[0][0] + lasts if until is None else until)

    def _see(self, packet: Packet[Any]) -> None:
        ticks = self._film.ticks_of(packet)
        back = packet.dts is not None and self._horizon is not None and packet.dts < self._horizon
        if ticks is None or back or len(self._waiting) == _MOST:
            raise ItemError("damaged", f"its time stamps make no sense, at {self.end_s:.1f} s")
        if packet.dts is not None:
            self._horizon = packet.dts
        self._waiting.append((ticks, packet))
        if not packet.is_discard:
            insort(self._times, ticks)

    def _read_past(self, ticks: int) -> bool:
        return self._horizon is not None and ticks <= self._horizon

    def _until(self) -> int | None:
        """When the frame after the one of the next packet is shown, as far as is known."""
        after = bisect_right(self._times, self._waiting[0][0])
        return self._times[after] if after < len(self._times) else None

    def _next(self, until: int) -> tuple[Packet[Any], Shown]:
        if not self.frames and self._times:
            self.first_s = self._film.seconds(self._times[0])
        ticks, packet = self._waiting.popleft()
        if self._waiting:
            del self._times[: bisect_left(self._times, min(at for at, _ in self._waiting))]
        if packet.is_discard:
            return packet, None
        self.frames += 1
        shown = self._film.seconds(ticks), self._film.seconds(until)
        self.end_s = max(self.end_s, shown[1])
        return packet, shown
