"""One emergence in a clip, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ObjectKind = Literal["person", "rider", "vehicle", "unknown"]
Side = Literal["left", "right", "ahead"]


@dataclass(frozen=True, slots=True)
class Box:
    """In pixels of the picture as shown."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def shared(self, other: Box) -> float:
        """The area that lies in both."""
        right, other_right = self.left + self.width, other.left + other.width
        if right <= other.left or other_right <= self.left:  # most pairs, and all pairs are asked
            return 0.0
        width = min(right, other_right) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def overlap(self, other: Box) -> float:
        """Intersection over union."""
        shared = self.shared(other)
        both = self.width * self.height + other.width * other.height - shared
        return shared / both if both else 0.0

    def scaled(self, by: float) -> Box:
        return Box(self.left * by, self.top * by, self.width * by, self.height * by)


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where it was at one moment."""

    time: float
    box: Box


@dataclass(frozen=True, slots=True)
class Evidence:
    track: tuple[Sighting, ...]
    """from when it was first seen; never empty"""
    side: Side
    """where it came from"""
    hidden_by: Box | None
    """what hid it, at that moment; None: nothing was made out"""
    hidden_by_kind: str | None
    """as the engine calls it: car, bus, edge …"""
    expansion: float
    """growth of its height a second, as a share of the height: 0.5 is a collision in two seconds"""
    time_to_collision_s: float | None
    """None: it does not come nearer"""
    confidence: float
    """0 to 1, as the engine's own rules say; no probability"""

    @property
    def first_seen_s(self) -> float:
        return self.track[0].time


@dataclass(frozen=True, slots=True)
class Incident:
    start_s: float
    end_s: float
    kind: ObjectKind
    evidence: Evidence
