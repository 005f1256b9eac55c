"""What size a processor gives a picture before a vision language model sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

    @classmethod
    def of_processor(cls, family: str, said: Mapping[str, Any], factor: int | None = None) -> Resizing:
        """`said`: its configuration; what it leaves out is as in the family's published models."""
        usual, size = PUBLISHED[family], said.get("size") or {}
        least = said.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge") or usual.least
        most = said.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge") or usual.most
        return cls(factor or usual.factor, int(least), int(most))


PUBLISHED = {"qwen3-vl": Resizing(32, 65_536, 16_777_216), "qwen2.5-vl": Resizing(28, 3_136, 12_845_056)}
