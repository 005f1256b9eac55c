"""A box as a family of language models writes it, and back into pixels of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worker.boards.defect import Box

Family = Literal["qwen3-vl", "qwen2.5-vl"]
FAMILIES: tuple[Family, ...] = ("qwen3-vl", "qwen2.5-vl")
_WHOLE = 1000
_FACTOR = 28
"""Qwen2.5-VL resizes a picture to multiples of it, and answers in pixels of that; Qwen3-VL in thousandths"""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Of one picture, in one family."""

    family: Family
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """What a box's sides are counted in."""
        if self.family == "qwen3-vl":
            return _WHOLE, _WHOLE
        return _resized(self.width), _resized(self.height)

    def written(self, box: Box) -> list[int]:
        wide, high = self.size[0] / self.width, self.size[1] / self.height
        return [
            round(box.left * wide),
            round(box.top * high),
            round(box.right * wide),
            round(box.bottom * high),
        ]

    def read(self, sides: list[int]) -> Box:
        wide, high = self.width / self.size[0], self.height / self.size[1]
        left, top, right, bottom = sides
        return Box(left * wide, top * high, right * wide, bottom * high)


def _resized(side: int) -> int:
    """Within the limits of its processor's pixels; a board's picture is far from both."""
    return max(_FACTOR, round(side / _FACTOR) * _FACTOR)
