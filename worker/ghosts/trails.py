"""Patches that move by themselves, followed from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from worker.ghosts.incident import Box, Sighting

LOST_STEPS = 3
"""a patch that was not seen for longer is given up"""
_SAME = 0.2
_PART = 0.25
"""share of the smaller one that the larger one covers: it grew, or was torn"""


@dataclass(frozen=True, slots=True)
class Patch:
    box: Box
    strength: float
    """of its drift, summed over its cells"""


@dataclass(slots=True)
class Trail:
    speed: float
    """of the background of late, when it began: its own widths a second"""
    hidden_by: Box | None
    """what stood where it came from"""
    times: list[float] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    missed: int = 0

    def add(self, time: float, patch: Patch) -> None:
        self.times.append(time)
        self.patches.append(patch)
        self.missed = 0

    @property
    def first(self) -> Box:
        return self.patches[0].box

    def within(self, seconds: float) -> Sequence[Patch]:
        """Its first ones."""
        until = self.times[0] + seconds + 1e-6
        return [one for time, one in zip(self.times, self.patches, strict=True) if time <= until]

    def sightings(self) -> tuple[Sighting, ...]:
        return tuple(Sighting(time, one.box) for time, one in zip(self.times, self.patches, strict=True))


class Trails:
    """Is told of one step after the other."""

    def __init__(self) -> None:
        self.all: list[Trail] = []
        self._alive: list[Trail] = []

    def cut(self) -> None:
        """Another scene: nothing goes on."""
        self._alive = []

    def update(self, time: float, found: Iterable[Patch]) -> list[Patch]:
        """The strongest trails choose first; → the patches that none of them took."""
        free = sorted(found, key=lambda one: -one.strength)
        for trail in sorted(self._alive, key=lambda one: -sum(each.strength for each in one.patches)):
            last = trail.patches[-1].box
            best = max(free, key=lambda one: _likeness(one.box, last), default=None)
            if best is None or _likeness(best.box, last) <= _SAME:
                trail.missed += 1
            else:
                trail.add(time, best)
                free.remove(best)
        self._alive = [one for one in self._alive if one.missed <= LOST_STEPS]
        return free

    def begin(self, time: float, patch: Patch, trail: Trail) -> None:
        trail.add(time, patch)
        self._alive.append(trail)
        self.all.append(trail)


def _likeness(one: Box, other: Box) -> float:
    smaller = min(one.width * one.height, other.width * other.height)
    covered = one.shared(other) / smaller
    return max(one.overlap(other), covered * _SAME / _PART)
