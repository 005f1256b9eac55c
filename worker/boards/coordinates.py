"""A box as a family of language models writes it, and back into pixels of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from worker.boards.defect import Box
from worker.engines.resizing import PUBLISHED, Resizing

Family = Literal["qwen3-vl", "qwen2.5-vl"]
FAMILIES: tuple[Family, ...] = ("qwen3-vl", "qwen2.5-vl")
RESIZING: dict[Family, Resizing] = {family: PUBLISHED[family] for family in FAMILIES}
"""as the processors of the published models have it"""
_WHOLE = 1000

Size = tuple[int, int]
"""width, height"""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Of one picture, in one family: Qwen3-VL answers in thousandths, Qwen2.5-VL in pixels of the picture as
    it was resized."""

    family: Family
    width: int
    height: int
    resizing: Resizing | None = None
    """of the model's own processor; None: of its family's"""

    @property
    def resized(self) -> Size:
        return (self.resizing or RESIZING[self.family]).of(self.width, self.height)

    @property
    def size(self) -> Size:
        """What a box's sides are counted in."""
        return (_WHOLE, _WHOLE) if self.family == "qwen3-vl" else self.resized

    def written(self, box: Box) -> list[int]:
        """Whole numbers, inside of the picture and never empty."""
        wide, high = self.size
        told = scaled(box, (self.width, self.height), self.size)
        left, right = _whole(told.left, told.right, wide)
        top, bottom = _whole(told.top, told.bottom, high)
        return [left, top, right, bottom]

    def read(self, sides: Sequence[int]) -> Box:
        left, top, right, bottom = sides
        return scaled(Box(left, top, right, bottom), self.size, (self.width, self.height))


def scaled(box: Box, of: Size, to: Size) -> Box:
    """The same part of a picture that has another size."""
    wide, high = to[0] / of[0], to[1] / of[1]
    return Box(box.left * wide, box.top * high, box.right * wide, box.bottom * high)


def _whole(begins: float, ends: float, most: int) -> tuple[int, int]:
    first = min(max(0, round(begins)), most - 1)
    return first, min(max(first + 1, round(ends)), most)
