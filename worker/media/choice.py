"""Which frames of a film are looked at: pure functions of when its frames are shown."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = NDArray[np.float64]
"""when each frame is shown, in seconds, in order"""

_HAIR_S = 1e-3
"""many files count in milliseconds, and write 33 for a thirtieth"""


def midpoints(count: int, n: int) -> list[int]:
    """n of so many frames, each from the middle of its n-th of the film: as VideoChat2 was trained. A film
    with fewer frames gives some of them more than once, for a model that was promised n."""
    segment = (count - 1) / n
    return [int(segment / 2) + round(segment * i) for i in range(n)]


def steps(times: Times, end_s: float, fps: float) -> list[int]:
    """The frames that are shown at the first one's time, 1/fps later, and so on until the end: each of them
    once, so that a film with fewer frames a second gives those that it has."""
    grid = Grid(float(times[0]), fps)
    ends = [*times[1:].tolist(), end_s]
    return [i for i, (time, end) in enumerate(zip(times.tolist(), ends, strict=True)) if grid.hit(time, end)]


class Points(ABC):
    """In time: what is shown at one of them is looked at."""

    def hit(self, time: float, end: float) -> bool:
        """Is there a point from that time until just before the end?"""
        return self._points_before(end) > self._points_before(time)

    @abstractmethod
    def _points_before(self, time: float) -> int: ...


class Grid(Points):
    """Evenly spaced."""

    def __init__(self, start_s: float, fps: float) -> None:
        self._start_s, self._fps = start_s, fps

    def _points_before(self, time: float) -> int:
        return max(0, math.ceil((time - self._start_s - _HAIR_S) * self._fps))


class Moments(Points):
    """Each told by itself."""

    def __init__(self, times: Sequence[float]) -> None:
        self._times = sorted(times)

    def _points_before(self, time: float) -> int:
        return bisect_left(self._times, time - _HAIR_S)
