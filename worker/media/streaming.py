"""A film from its beginning to its end, or a stretch of it: so many frames a second, one after the other."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from av import Packet, VideoFrame

from worker.errors import ItemError
from worker.media.choice import Grid, Moments, Points
from worker.media.container import opened
from worker.media.film import MAX_PIXELS, Film
from worker.media.lookahead import Lookahead
from worker.media.rgb import Rgb, Size, ToRgb

_MOMENT_S = 0.01
"""what is shown at the last of some times may begin so long after it: files round theirs"""


class Stream:
    """To be iterated once: (time, frame) in the order shown, those frames that `sample` would take at as many
    a second. One pass; no more than one of them is held, however long the film is.

    With `from_s` and `to_s`: what is shown from the one until just before the other; with `at`: what is shown
    at these times, which come in order, and nothing else is converted. A whole film that turns
    out not to be whole ends in an ItemError behind its last frame, unless a part of it will do.

    `quick`: the same frames, their colours a level or two off."""

    def __init__(
        self,
        path: Path,
        *,
        fps: float = 10.0,
        size: Size = None,
        from_s: float | None = None,
        to_s: float = math.inf,
        at: Sequence[float] = (),
        allow_partial: bool = False,
        max_pixels: int = MAX_PIXELS,
        quick: bool = False,
    ) -> None:
        self.partial: str | None = None
        """what is missing or damaged, where that was allowed; known behind the last frame"""
        self._path, self._max_pixels, self._allow_partial = path, max_pixels, allow_partial
        self._fps, self._from_s, self._to_s = fps, from_s, to_s
        self._moments = Moments(at) if at else None
        if at:
            self._from_s, self._to_s = at[0], at[-1] + _MOMENT_S
        self._to_rgb = ToRgb(size, quick=quick)
        self._frames = 0
        """of the film, as far as it was read"""
        self.end_s = 0.0
        """when the last frame ends; known behind it"""

    def __iter__(self) -> Iterator[tuple[float, Rgb]]:
        if self._from_s and (yield from self._pass(straight_to=self._from_s)):
            return
        yield from self._pass()

    def _pass(self, straight_to: float | None = None) -> Generator[tuple[float, Rgb], None, bool]:
        """False: straight there is no way; nothing was handed out."""
        with opened(self._path) as container:
            film = Film(container, self._max_pixels)
            if straight_to is None:
                packets = film.packets()
            elif film.tells_times:
                packets = film.around(straight_to)
            else:
                return False
            frames = (self._by_packets if film.tells_times else self._by_frames)(film, packets)
            first = next(frames, None)
            if straight_to is not None and (first is None or first[0] > straight_to or film.went_wrong):
                return False
            for time, frame in chain((first,) if first else (), frames):
                yield time, self._to_rgb(frame)
            self._look_back(film, empty=first is None)
            return True

    def _points(self, first_s: float) -> Points:
        return self._moments or Grid(first_s if self._from_s is None else self._from_s, self._fps)

    def _by_packets(self, film: Film, packets: Iterator[Packet[Any]]) -> Iterator[tuple[float, VideoFrame]]:
        """What nobody wants to see is not decoded, where that can be helped."""
        ahead = Lookahead(film)
        points: Points | None = None
        wanted: set[int | None] = set()
        for packet, shown in ahead.over(packets):
            if packet.dts is not None and film.seconds(packet.dts) >= self._to_s:
                break
            points = points or self._points(ahead.first_s)
            if is_wanted := shown is not None and shown[0] < self._to_s and points.hit(*shown):
                wanted.add(film.ticks_of(packet))
            yield from _those(film, packet, wanted, is_wanted=is_wanted)
        yield from _those(film, None, wanted)
        if wanted:  # what makes a packet show nothing is damage, if it was not told
            film.broken = film.broken or len(wanted)
        self._frames, self.end_s = ahead.frames, ahead.end_s

    def _by_frames(self, film: Film, packets: Iterator[Packet[Any]]) -> Iterator[tuple[float, VideoFrame]]:
        """Each is held until the next one comes: only then is it clear how long it is shown."""
        points: Points | None = None
        held: tuple[float, VideoFrame] | None = None
        for time, frame in (one for packet in packets for one in film.decode(packet)):
            points = points or self._points(time)
            if held and points.hit(held[0], time):
                yield held
            held = (time, frame) if time < self._to_s else None
            if held is None:
                break
            self._frames += 1
        if held and points:
            self.end_s = held[0] + 1 / film.rate
            if points.hit(held[0], self.end_s):
                yield held

    def _look_back(self, film: Film, *, empty: bool) -> None:
        faults = []
        whole = self._from_s is None and math.isinf(self._to_s)
        if whole and (truncation := film.truncation(self._frames, self.end_s)):
            faults.append(truncation)
        if film.broken:
            faults.append(ItemError("damaged", film.damage(self._frames)))
        if empty:
            what = "not one frame can be decoded"
            faults.append(
                ItemError("damaged", what if whole else f"{what} from {self._from_s or 0:.1f} s on")
            )
        if faults and (empty or not self._allow_partial):
            raise faults[0]
        self.partial = "; ".join(fault.message for fault in faults) or None


def _those(
    film: Film, packet: Packet[Any] | None, wanted: set[int | None], *, is_wanted: bool = True
) -> Iterator[tuple[float, VideoFrame]]:
    for time, frame in film.decode(packet, wanted=is_wanted):
        ticks = film.ticks_of(frame)
        if ticks in wanted:
            wanted.remove(ticks)
            yield time, frame
