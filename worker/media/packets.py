"""The packets of a film as a table, and which of them must be decoded to see certain frames."""

from __future__ import annotations

from array import array
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.errors import ItemError
from worker.media.film import Film

_MOST = 1 << 22
"""packets in a table of 70 MB: 38 hours at 30 frames a second"""
_NO_TIME = -(1 << 63)
_NONE = (1 << 62, 0)
"""no keyframe: behind every packet"""

_Column: TypeAlias = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Packets start to stop, both included: they decode without any other."""

    start: int
    stop: int


class PacketTable:
    """When each packet's frame is shown, whether it is a keyframe, whether it is shown at all; in the order
    of the file, which is the order of decoding."""

    def __init__(self, ticks: _Column, keys: _Column, discard: _Column, *, trusted: bool = True) -> None:
        self.ticks: NDArray[np.int64] = np.asarray(ticks, np.int64)
        self.keys: NDArray[np.bool_] = np.asarray(keys, np.bool_)
        shown = np.flatnonzero(~np.asarray(discard, np.bool_))
        self.shown: NDArray[np.int64] = shown[np.argsort(self.ticks[shown], kind="stable")]
        """the packets whose frames are shown, in the order shown"""
        known = self.ticks[self.shown]
        self.trusted = trusted and known.size > 0 and bool((np.diff(known) > 0).all())
        """the times are good enough to know frames by"""

    def runs(self, wanted: Sequence[int]) -> Iterator[Run]:
        """What to decode for these packets: from the last keyframe shown no later than they are. A film with
        open GOPs shows frames before the keyframe that they follow in the file; these belong to the
        keyframe before it. Runs that touch are one."""
        keys = np.flatnonzero(self.keys)
        ahead = zip(keys.tolist(), self.ticks[keys].tolist(), strict=True)
        key, tick = next(ahead, _NONE)
        # the keyframes so far; one that a later one precedes on the screen is no longer of use to anybody
        before: list[int] = []
        ticks: list[int] = []
        start = stop = -1
        for packet in sorted(wanted):
            while key <= packet:
                while ticks and ticks[-1] >= tick:
                    before.pop()
                    ticks.pop()
                before.append(key)
                ticks.append(tick)
                key, tick = next(ahead, _NONE)
            shown_before = bisect(ticks, int(self.ticks[packet]))
            first = before[shown_before - 1] if shown_before else 0
            if stop >= 0 and first > stop + 1:
                yield Run(start, stop)
                start = first
            elif stop < 0:
                start = first
            start, stop = min(start, first), packet
        if stop >= 0:
            yield Run(start, stop)


def refuse_too_long(count: int) -> None:
    if count > _MOST:
        raise ItemError("too-long", f"more than {_MOST:,} frames: cut the film")


def read_table(film: Film) -> PacketTable:
    """All of the file goes by once; nothing is decoded."""
    ticks, keys, discard = array("q"), bytearray(), bytearray()
    trusted = not film.hides_times
    last = _NO_TIME
    for packet in film.packets():
        if not packet.size:
            continue
        refuse_too_long(len(ticks) + 1)
        at = film.ticks_of(packet)
        dts = packet.dts if packet.dts is not None else last
        trusted = trusted and at is not None and dts >= last
        last = dts
        ticks.append(_NO_TIME if at is None else at)
        keys.append(packet.is_keyframe)
        discard.append(packet.is_discard)
    return PacketTable(ticks, keys, discard, trusted=trusted)
