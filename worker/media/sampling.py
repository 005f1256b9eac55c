"""A few frames of a film: exactly those that a full decode would give, without decoding the rest."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from av import VideoFrame

from worker.errors import ItemError
from worker.media.choice import Times, midpoints, steps
from worker.media.container import opened
from worker.media.film import MAX_PIXELS, Film
from worker.media.mp4_index import told_table
from worker.media.packets import PacketTable, Run, read_table
from worker.media.rgb import Rgb, Size, ToRgb

_MOST_BYTES = 1 << 30

Choose: TypeAlias = Callable[[Times, float], list[int]]
"""when the frames are shown, and when the last one ends → the numbers of those that are wanted, in order"""


@dataclass(frozen=True, slots=True)
class Frames:
    frames: Rgb
    """[T, height, width, 3], as shown"""
    times: tuple[float, ...]
    """seconds since the film's start, for each of them"""
    numbers: tuple[int, ...]
    """which frames of the film they are, counted from 0 in the order shown; the same one more than once where
    the film has fewer frames than were asked for"""
    total: int
    """frames in the film, as far as it is readable"""
    duration_s: float
    partial: str | None
    """what is missing or damaged, where that was allowed"""

    @property
    def distinct(self) -> int:
        return len(set(self.numbers))


def sample(
    path: Path,
    *,
    n: int | None = None,
    fps: float | None = None,
    size: Size = None,
    sharp: bool = False,
    allow_partial: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Frames:
    """Either n frames from all over the film, or so many a second. A film that is not whole is refused with
    an ItemError, unless a part of it will do: then the frames come from that part, and `partial` says so.

    `sharp`: scaled as torch scales without antialiasing, not by a filter that averages."""
    choose = _chooser(n, fps)
    for told in (True, False):
        with opened(path) as container:
            film = Film(container, max_pixels)
            index = told_table(film, path) if told else None
            table = index or read_table(film)
            times = film.all_seconds(table.ticks[table.shown])
            if table.trusted:
                if not allow_partial and not index:
                    _refuse_truncated(film, times)
                album = _Album(choose(times, _end(times, film)), size, sharp)
                if _fill_by_runs(album, film, table):
                    return _bound(album, times, film, allow_partial=allow_partial)
        if not index:
            break
    # The packets do not tell what is shown: all frames are decoded, and again if they are not so many.
    while True:
        with opened(path) as container:
            film = Film(container, max_pixels)
            album = _Album(choose(times, _end(times, film)) if len(times) else [], size, sharp)
            times = _fill_by_walk(album, film)
            if not allow_partial:
                _refuse_truncated(film, times)
            if not len(times):
                raise ItemError("damaged", "not one frame can be decoded")
            if choose(times, _end(times, film)) == album.chosen:
                return _bound(album, times, film, allow_partial=allow_partial)


def _chooser(n: int | None, fps: float | None) -> Choose:
    if n is not None and fps is None and n >= 1:
        return lambda times, _: midpoints(len(times), n)
    if fps is not None and n is None and fps > 0:
        return lambda times, end_s: steps(times, end_s, fps)
    raise ValueError("say either how many frames, or how many a second")


def _refuse_truncated(film: Film, times: Times) -> None:
    if truncation := film.truncation(len(times), _end(times, film)):
        raise truncation


def _end(times: Times, film: Film) -> float:
    return float(times[-1]) + 1 / film.rate if len(times) else 0.0


class _Album:
    """Room for the frames that were chosen; they may come in any order."""

    def __init__(self, chosen: list[int], size: Size, sharp: bool) -> None:
        self.chosen = chosen
        self.missing = set(chosen)
        self.pages: Rgb = np.empty((0, 0, 0, 3), np.uint8)
        self._to_rgb = ToRgb(size, sharp=sharp)

    def put(self, number: int | None, frame: VideoFrame) -> None:
        if number is None or number not in self.missing:
            return
        if not len(self.pages):
            self.pages = self._room(*self._to_rgb.shape(frame))
        self.missing.remove(number)
        here = slice(bisect_left(self.chosen, number), bisect_right(self.chosen, number))
        self.pages[here] = self._to_rgb(frame)

    def _room(self, width: int, height: int) -> Rgb:
        count = len(self.chosen)
        if count * width * height * 3 > _MOST_BYTES:
            raise ItemError(
                "too-large",
                f"{count:,} frames of {width}x{height} do not fit into {_MOST_BYTES >> 30} GiB: "
                "take fewer or smaller ones",
            )
        return np.empty((count, height, width, 3), np.uint8)


def _fill_by_runs(album: _Album, film: Film, table: PacketTable) -> bool:
    """False: some packet or frame is not what the table says."""
    numbers = {int(table.ticks[table.shown[n]]): n for n in album.chosen}
    for run in table.runs([int(table.shown[n]) for n in numbers.values()]):
        for frame in _decoded(film, table, run, numbers):
            ticks = film.ticks_of(frame)
            if film.went_wrong:
                return False
            if ticks is not None:
                album.put(numbers.get(ticks), frame)
    return not album.missing


def _decoded(film: Film, table: PacketTable, run: Run, wanted: Mapping[int, int]) -> Iterator[VideoFrame]:
    """What comes out of a run; it ends early where the packets are others than the table has."""
    expected = table.ticks[run.start : run.stop + 1].tolist()
    for ticks, packet in zip(expected, film.from_keyframe(expected[0]), strict=False):
        if film.ticks_of(packet) != ticks:
            return
        for _, frame in film.decode(packet, wanted=ticks in wanted):
            yield frame
    for _, frame in film.decode(None):
        yield frame


def _fill_by_walk(album: _Album, film: Film) -> Times:
    """Every frame is decoded; → when each is shown."""
    times = array("d")
    for packet in film.packets():
        for time, frame in film.decode(packet):
            album.put(len(times), frame)
            times.append(time)
    return np.asarray(times)


def _bound(album: _Album, times: Times, film: Film, *, allow_partial: bool) -> Frames:
    end_s = _end(times, film)
    faults = []
    if truncation := film.truncation(len(times), end_s):
        faults.append(truncation.message)
    if film.broken:
        faults.append(film.damage(len(times)))
        if not allow_partial:
            raise ItemError("damaged", faults[-1])
    return Frames(
        frames=album.pages,
        times=tuple(times[album.chosen].tolist()),
        numbers=tuple(album.chosen),
        total=len(times),
        duration_s=round(end_s - float(times[0]), 3),
        partial="; ".join(faults) or None,
    )
