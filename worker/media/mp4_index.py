"""The packet table of an mp4 from its index: of a film of an hour only what is decoded is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from worker.media.film import Film
from worker.media.packets import PacketTable, refuse_too_long

_BOXES_MOST = 1000
"""that are looked at in one box: a hostile file may have millions"""
_NO_TIME = -1
"""of an edit that shows nothing for a while"""


def told_table(film: Film, path: Path) -> PacketTable | None:
    """None: the index does not tell all, or the file is not whole; then the packets themselves must go by."""
    entries = film.stream.index_entries
    count = len(entries)
    if not film.is_mp4 or film.hides_times or not count:
        return None
    refuse_too_long(count)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        delays = _delays(file, size, film.stream.id, count)
    if delays is None:
        return None
    told = np.fromiter(
        ((one.timestamp, one.pos, one.size, one.is_keyframe, one.is_discard) for one in entries),
        np.dtype((np.int64, 5)),
        count,
    )
    decoded, at, sizes, keys, discard = told.T
    if (np.diff(decoded) < 0).any() or (sizes <= 0).any() or (at + sizes > size).any():
        return None
    first = next(film.packets(), None)
    pts = first.pts if first is not None and first.dts == decoded[0] else None
    shown = decoded + delays
    shown += (pts or 0) - shown[0]  # edits and negative delays move all alike
    film.take_as_read(count, int(shown.max()))
    whole = pts is not None and not film.truncation(count, 0.0)
    return PacketTable(shown, keys, discard, trusted=whole)


def _delays(file: BinaryIO, size: int, track: int, count: int) -> NDArray[np.int64] | None:
    """By how much each packet of the track is shown later than it is decoded, as FFmpeg reads it; None: the
    index leaves packets out, shows them twice, or is of another kind."""
    for trak in _within(file, (0, size), b"moov", b"trak"):
        tables = list(_within(file, trak, b"mdia", b"minf", b"stbl"))
        if _track_id(file, trak) != track or len(tables) != 1:
            continue
        edits = [edit for box in _within(file, trak, b"edts", b"elst") for edit in _edits(file, box)]
        if len(edits) > 1:
            return None
        steps = [_pairs(file, box, count) for box in _within(file, tables[0], b"stts")]
        delays = [_pairs(file, box, count) for box in _within(file, tables[0], b"ctts")]
        if len(steps) != 1 or len(delays) > 1 or any(_packets(one) != count for one in steps + delays):
            return None
        return np.repeat(delays[0][:, 1], delays[0][:, 0]) if delays else np.zeros(count, np.int64)
    return None


_Span = tuple[int, int]
"""where the body of a box begins and ends"""


def _within(file: BinaryIO, outer: _Span, *kinds: bytes) -> Iterator[_Span]:
    """The boxes that this path leads to."""
    for kind, span in islice(_boxes(file, outer), _BOXES_MOST):
        if kind == kinds[0]:
            if len(kinds) == 1:
                yield span
            else:
                yield from _within(file, span, *kinds[1:])


def _boxes(file: BinaryIO, outer: _Span) -> Iterator[tuple[bytes, _Span]]:
    at, end = outer
    while at + 8 <= end:
        head = _read(file, at, 16)
        length, body = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, body = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = end - at
        if length < body or at + length > end:
            return
        yield head[4:8], (at + body, at + length)
        at += length


def _track_id(file: BinaryIO, trak: _Span) -> int:
    for at, _ in _within(file, trak, b"tkhd"):
        head = _read(file, at, 24)
        return int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16], "big")
    return 0


def _edits(file: BinaryIO, box: _Span) -> list[int]:
    """From where in the track each edit shows something."""
    kind = ">i8" if _read(file, box[0], 1) == b"\1" else ">i4"
    entry = np.dtype([("length", kind), ("start", kind), ("rate", ">i4")])
    starts = np.frombuffer(_entries(file, box, entry.itemsize, _BOXES_MOST), entry)["start"].tolist()
    return [start for start in starts if start != _NO_TIME]


def _pairs(file: BinaryIO, box: _Span, most: int) -> NDArray[np.int64]:
    """Of a table, how many packets and what they have; it needs at most one pair a packet."""
    return np.frombuffer(_entries(file, box, 8, most), ">i4").reshape(-1, 2).astype(np.int64)


def _packets(pairs: NDArray[np.int64]) -> int:
    """0: it makes no sense."""
    return int(pairs[:, 0].sum()) if (pairs[:, 0] >= 0).all() else 0


def _entries(file: BinaryIO, box: _Span, each: int, most: int) -> bytes:
    """What a table holds, behind its version and its count."""
    room = max(0, box[1] - box[0] - 8) // each
    count = int.from_bytes(_read(file, box[0] + 4, 4), "big")
    return _read(file, box[0] + 8, min(count, room, most) * each)


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)
