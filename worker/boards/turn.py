"""Quarter turns and flips: the same board as a camera may see it, and where its boxes are then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.boards.defect import Box, Defect

Picture = NDArray[Any]
"""[height, width] or [height, width, colours]"""


@dataclass(frozen=True, slots=True)
class Turn:
    quarters: int = 0
    """against the clock"""
    flipped: bool = False
    """left and right change places, before it is turned"""

    def size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.quarters % 2 else (width, height)

    def picture(self, picture: Picture) -> Picture:
        seen = picture[:, ::-1] if self.flipped else picture
        return np.ascontiguousarray(np.rot90(seen, self.quarters))

    def box(self, box: Box, width: int, height: int) -> Box:
        """`width` and `height` of the picture before."""
        if self.flipped:
            box = Box(width - box.right, box.top, width - box.left, box.bottom)
        for _ in range(self.quarters % 4):
            box = Box(box.top, width - box.right, box.bottom, width - box.left)
            width, height = height, width
        return box

    def defect(self, defect: Defect, width: int, height: int) -> Defect:
        return replace(defect, box=self.box(defect.box, width, height))


TURNS = tuple(Turn(quarters, flipped) for flipped in (False, True) for quarters in range(4))
"""all that there are, the first of which does nothing"""
