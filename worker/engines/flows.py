"""Optical flow between the frames that an engine looks at: coarse, and cheap."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.ghosts.flow import Flow
from worker.media.rgb import Rgb

_BRIGHTER = (255 * (np.arange(256) / 255) ** 0.6 + 0.5).astype(np.uint8)
"""dark parts are told apart better; the flow sees contrast, not brightness"""


class Flows:
    """Is shown one frame after the other."""

    def __init__(self, width: int, columns: int, *, fine: bool = False) -> None:
        """Measured in a picture so wide, whatever the frames are, and told for so many columns of cells.
        `fine`: for who looks at the flow itself, in dark parts too; it takes twice as long."""
        import cv2

        self._cv2, self._width, self._columns = cv2, width, columns
        self._dis = cv2.DISOpticalFlow.create(
            cv2.DISOPTICAL_FLOW_PRESET_FAST if fine else cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
        )
        self._brighter = _BRIGHTER if fine else None
        self.picture: Any = None
        """the last frame, gray and so wide; None: there was none"""

    def since_last(self, frame: Rgb) -> Flow | None:
        """None: it is the first."""
        cv2, (height, width) = self._cv2, frame.shape[:2]
        rows = max(4, round(self._columns * height / width))
        size = self._width, round(rows * self._width / self._columns)
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if gray.shape != size[::-1]:
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        if self._brighter is not None:
            gray = cv2.LUT(gray, self._brighter)
        last, self.picture = self.picture, gray
        if last is None:
            return None
        field = self._dis.calc(last, gray, None)  # type: ignore[call-overload]
        cells = cv2.resize(field, (self._columns, rows), interpolation=cv2.INTER_AREA)
        return Flow(cells * (width / self._width), width, height)
