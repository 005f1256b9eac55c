"""Optical flow between the frames that an engine looks at: coarse, and cheap."""

from __future__ import annotations

from typing import Any

from worker.engines.engine import Frame
from worker.ghosts.flow import Flow

_WIDTH = 396
"""flow is measured in a picture so wide"""
_COLUMNS = 48
"""and told for so many columns of cells"""


class Flows:
    """Is shown one frame after the other."""

    def __init__(self) -> None:
        import cv2

        self._cv2 = cv2
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._last: Any = None

    def since_last(self, frame: Frame) -> Flow | None:
        """None: it is the first."""
        cv2, (height, width) = self._cv2, frame.shape[:2]
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        by = width / _WIDTH
        gray = cv2.resize(gray, (_WIDTH, max(16, round(height / by))), interpolation=cv2.INTER_AREA)
        last, self._last = self._last, gray
        if last is None:
            return None
        field = self._dis.calc(last, gray, None)  # type: ignore[call-overload]
        rows = max(1, round(_COLUMNS * height / width))
        return Flow(cv2.resize(field, (_COLUMNS, rows), interpolation=cv2.INTER_AREA) * by, width, height)
