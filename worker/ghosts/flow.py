"""Where everything in the picture went since the frame before: the car's own motion and that of others."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from worker.ghosts.incident import Box

_CORE = 0.7
"""the inner part of a box shows whom it is about; around it is background"""
_PACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Flow:
    field: npt.NDArray[np.floating]
    """rows x columns x (right, down), in pixels of the whole picture"""
    width: int
    height: int

    @property
    def moved_on(self) -> float:
        """How far most of the picture went, in its widths: of a car that stands it is next to nothing."""
        return float(np.median(np.linalg.norm(self.field, axis=-1))) / self.width

    def moved(self, box: Box) -> Box:
        """The box where its content went: the median of what lies in it."""
        rows, columns = self.field.shape[:2]
        left, right = _cells(box.left, box.width, self.width, columns)
        top, bottom = _cells(box.top, box.height, self.height, rows)
        within = self.field[top:bottom, left:right].reshape(-1, 2)
        across, down = np.median(within, axis=0).tolist()
        return Box(box.left + across, box.top + down, box.width, box.height)


class Pace:
    """How fast the picture has been going of late."""

    def __init__(self) -> None:
        self._speeds: deque[tuple[float, float]] = deque()
        self._last_s = 0.0

    def after(self, time: float, moved: float | None) -> float:
        """Its own widths a second. `moved`: so many of them since the time before; None: nobody knows."""
        if moved is not None and time > self._last_s:
            self._speeds.append((time, moved / (time - self._last_s)))
        self._last_s = time
        while self._speeds and self._speeds[0][0] < time - _PACE_S:
            self._speeds.popleft()
        return median(speed for _, speed in self._speeds) if self._speeds else 0.0


def _cells(start: float, length: float, of: int, count: int) -> tuple[int, int]:
    """First and one behind the last cell that a box's core takes; at least one."""
    cell, margin = of / count, length * (1 - _CORE) / 2
    first = min(count - 1, max(0, int((start + margin) / cell)))
    last = min(count, max(first + 1, int(np.ceil((start + length - margin) / cell))))
    return first, last
