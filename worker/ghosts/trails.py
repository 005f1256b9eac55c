"""Patches that move by themselves, followed from step to step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from worker.ghosts.incident import Box, Sighting

LOST_STEPS = 3
"""a patch that was not seen for longer is given up"""
TOLD_S = 2.0
"""of a trail no more than its beginning is kept"""
_SAME = 0.2
_PART = 0.25
"""share of the smaller one that the larger one covers: it grew, or was torn"""
_NOWHERE = Box(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Patch:
    box: Box
    strength: float
    """of its drift, summed over its cells"""


@dataclass(slots=True, weakref_slot=True)
class Trail:
    speed: float
    """of the background of late, when it began: its own widths a second"""
    hidden_by: Box | None
    """what stood where it came from"""
    times: list[float] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    last: Box = _NOWHERE
    strength: float = 0.0
    """of all its patches"""
    missed: int = 0

    def add(self, time: float, patch: Patch) -> None:
        if not self.is_told(time):
            self.times.append(time)
            self.patches.append(patch)
        self.last = patch.box
        self.strength += patch.strength
        self.missed = 0

    @property
    def first(self) -> Box:
        return self.patches[0].box

    @property
    def is_lost(self) -> bool:
        return self.missed > LOST_STEPS

    def is_told(self, time: float) -> bool:
        """Is all in it that is kept of it?"""
        return bool(self.times) and time > self.times[0] + TOLD_S

    def within(self, seconds: float) -> Sequence[Patch]:
        """Its first ones."""
        until = self.times[0] + seconds + 1e-6
        return [one for time, one in zip(self.times, self.patches, strict=True) if time <= until]

    def sightings(self) -> tuple[Sighting, ...]:
        return tuple(Sighting(time, one.box) for time, one in zip(self.times, self.patches, strict=True))


class Trails:
    """Is told of one step after the other."""

    def __init__(self) -> None:
        self._alive: list[Trail] = []
        self._begun: deque[Trail] = deque()
        """and not handed out"""

    def cut(self) -> None:
        """Another scene: nothing goes on."""
        for trail in self._alive:
            trail.missed = LOST_STEPS + 1
        self._alive = []

    def told(self, time: float) -> Iterator[Trail]:
        """Those of which all is known that is kept: each once, in the order they begin."""
        while self._begun and (self._begun[0].is_lost or self._begun[0].is_told(time)):
            yield self._begun.popleft()

    def update(self, time: float, found: Iterable[Patch]) -> list[Patch]:
        """The strongest trails choose first; → the patches that none of them took."""
        free = sorted(found, key=lambda one: -one.strength)
        for trail in sorted(self._alive, key=lambda one: -one.strength):
            best = max(free, key=lambda one: _likeness(one.box, trail.last), default=None)
            if best is None or _likeness(best.box, trail.last) <= _SAME:
                trail.missed += 1
            else:
                trail.add(time, best)
                free.remove(best)
        self._alive = [one for one in self._alive if not one.is_lost]
        return free

    def begin(self, time: float, patch: Patch, trail: Trail) -> None:
        trail.add(time, patch)
        self._alive.append(trail)
        self._begun.append(trail)


def _likeness(one: Box, other: Box) -> float:
    smaller = min(one.width * one.height, other.width * other.height)
    covered = one.shared(other) / smaller
    return max(one.overlap(other), covered * _SAME / _PART)
