"""Where a board differs from its template: copper that was added, copper that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from worker.boards.copper import Mask, core, grown

_JOIN = 9
"""pieces so near to each other are one difference"""


@dataclass(frozen=True, slots=True)
class Difference:
    left: int
    top: int
    right: int
    bottom: int
    added: bool
    """copper that should not be there; else copper that should"""


def differences(template: Mask, tested: Mask) -> Iterator[Difference]:
    """`template`: aligned."""
    for added, differs in ((True, tested & (1 - template)), (False, template & (1 - tested))):
        thick = core(differs)  # thin is an edge that is not quite where it was
        outlines, _ = cv2.findContours(grown(thick, _JOIN), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for outline in outlines:
            x, y, width, height = cv2.boundingRect(outline)
            own = np.zeros((height, width), np.uint8)
            cv2.drawContours(own, [outline], 0, 1, cv2.FILLED, offset=(-x, -y))
            left, top, width, height = cv2.boundingRect(own & thick[y : y + height, x : x + width])
            yield Difference(x + left, y + top, x + left + width, y + top + height, added)
