"""What size a processor gives a picture before a vision language model sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LONGEST = 200
"""times as long as wide: beyond that a picture is refused"""


@dataclass(frozen=True, slots=True)
class Resizing:
    """Of one model: as transformers' smart_resize has it, to the pixel."""

    factor: int
    """both sides become multiples of it: the pixels of a token"""
    least: int
    most: int
    """pixels of the whole picture"""

    def of(self, width: int, height: int) -> tuple[int, int]:
        if max(width, height) > _LONGEST * min(width, height):
            raise ValueError(f"a picture of {width}x{height} is too long and thin for this model")
        factor = self.factor
        wide, high = (round(side / factor) * factor for side in (width, height))
        if wide * high > self.most:
            by = math.sqrt((width * height) / self.most)
            wide, high = (max(factor, math.floor(side / by / factor) * factor) for side in (width, height))
        elif wide * high < self.least:
            by = math.sqrt(self.least / (width * height))
            wide, high = (math.ceil(side * by / factor) * factor for side in (width, height))
        return wide, high
