"""What is in front of the camera while something moves through it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.ghosts.incident import Box, Side

AHEAD = 0.12
"""share of the picture's width to both sides of its middle that is ahead"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Width and height in pixels of the frames, and when the first of them is shown."""

    width: int
    height: int
    start_s: float

    def side(self, first: Box) -> Side:
        """Where it came from who was first seen there."""
        off = (first.left + first.width / 2) / self.width - 0.5
        if abs(off) <= AHEAD:
            return "ahead"
        return "left" if off < 0 else "right"
