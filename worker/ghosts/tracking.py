"""From the boxes of single frames to the ways of road users. Nothing is looked at but boxes and times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.ghosts.detection import Detection, covered
from worker.ghosts.flow import Flow
from worker.ghosts.incident import Box, Sighting

START_SCORE = 0.45
"""so sure must the detector be to begin a track; a fainter box may go on with one"""
LOST_S = 0.5
"""a road user that was missed for so long is given up"""
TOLD_S = 5.0
"""of a track no more than its beginning is kept"""

_REACH = 0.6
"""how far from where it is expected a box may lie, in its own size"""
_STRETCH = math.log(1.5)
"""how much larger or smaller than expected it may be"""
_TOUCHING = 0.2
"""overlap from which neither matters"""
_TORN = 0.25
"""overlap with an older track: what begins here is no newcomer but a piece of that one"""
_PART = 0.7
"""or one lies so much within the other"""
_NOWHERE = Box(0, 0, 0, 0)


@dataclass(slots=True)
class Track:
    since_s: float
    """when it was first seen, it or that of which it is a piece"""
    times: list[float] = field(default_factory=list)
    seen: list[Detection] = field(default_factory=list)
    last_s: float = 0.0
    expected: Box = _NOWHERE
    """where it should be by now"""

    @property
    def born_s(self) -> float:
        return self.times[0]

    def is_told(self, time: float) -> bool:
        """Is all in it that is kept of it?"""
        return time > min(self.last_s + LOST_S, self.born_s + TOLD_S)

    def sightings(self) -> tuple[Sighting, ...]:
        return tuple(Sighting(time, one.box) for time, one in zip(self.times, self.seen, strict=True))

    def add(self, time: float, one: Detection) -> None:
        if not self.times or time <= self.born_s + TOLD_S:
            self.times.append(time)
            self.seen.append(one)
        self.last_s, self.expected = time, one.box


class Tracker:
    """Is told of one frame after the other, and hands out the tracks that begin; they grow from then on."""

    def __init__(self) -> None:
        self.alive: list[Track] = []

    def update(self, time: float, found: Sequence[Detection], flow: Flow | None = None) -> list[Track]:
        """`flow`: since the frame before. → those that begin."""
        self.alive = [one for one in self.alive if time - one.last_s <= LOST_S]
        if flow:
            for track in self.alive:
                track.expected = flow.moved(track.expected)
        sure = [one for one in found if one.score >= START_SCORE]
        free, new = _match(time, self.alive, sure)
        _match(time, free, [one for one in found if one.score < START_SCORE])
        born = [Track(self._since(time, one.box)) for one in new]
        for track, one in zip(born, new, strict=True):
            track.add(time, one)
        self.alive += born
        return born

    def _since(self, time: float, box: Box) -> float:
        torn = (one.since_s for one in self.alive if len(one.times) > 1 and _is_piece(box, one.expected))
        return min(torn, default=time)


def size(box: Box) -> float:
    """Of a square as large."""
    return math.sqrt(max(1.0, box.width * box.height))


def _is_piece(box: Box, of: Box) -> bool:
    alike = 1 / 3 < size(box) / size(of) < 3
    return box.overlap(of) > _TORN or (alike and max(covered(box, of), covered(of, box)) > _PART)


def _match(
    time: float, tracks: Sequence[Track], found: Sequence[Detection]
) -> tuple[list[Track], list[Detection]]:
    """The best pairs first; → who got none."""
    expected = [track.expected for track in tracks]
    pairs = sorted(
        (misfit + (time - tracks[t].last_s) * 0.3, t, d)
        for t, box in enumerate(expected)
        for d, one in enumerate(found)
        if (misfit := _misfit(box, one.box)) is not None
    )
    taken_t: set[int] = set()
    taken_d: set[int] = set()
    for _, t, d in pairs:
        if t not in taken_t and d not in taken_d:
            tracks[t].add(time, found[d])
            taken_t.add(t)
            taken_d.add(d)
    return (
        [one for t, one in enumerate(tracks) if t not in taken_t],
        [one for d, one in enumerate(found) if d not in taken_d],
    )


def _misfit(expected: Box, box: Box) -> float | None:
    """None: it cannot be that one."""
    stretch = abs(math.log(size(box) / size(expected)))
    across = abs(box.left + box.width / 2 - expected.left - expected.width / 2)
    down = abs(box.top + box.height / 2 - expected.top - expected.height / 2)
    away = math.hypot(across, down) / min(size(box), size(expected))
    overlap = expected.overlap(box)
    if overlap < _TOUCHING and (stretch > _STRETCH or away > _REACH):
        return None
    return 1 - overlap + 0.5 * min(away, 2) + 0.5 * stretch
