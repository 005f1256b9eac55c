"""How fast the frames follow each other, from their times."""

from __future__ import annotations

from collections import Counter

_TICK = 1e-4
_JITTER_S = 1.5e-3
"""files that count in milliseconds write 33, 33, 34 for a steady 30 a second"""
_JITTER = 0.1
_UNSTEADY = 0.02
"""share of gaps off the usual from which the rate counts as variable; fewer are hiccups"""
_HOLE = 10
"""a gap of so many usual ones, and a second at least, is a hole"""


class Pace:
    """Sees the time of every frame, in the order shown."""

    def __init__(self) -> None:
        self.frames = 0
        self.first = self.last = 0.0
        self.hole = (0.0, 0.0)
        """start and length of the longest gap"""
        self._gaps: Counter[int] = Counter()

    def see(self, time: float) -> None:
        if self.frames == 0:
            self.first = time
        else:
            gap = time - self.last
            self._gaps[round(gap / _TICK)] += 1
            if gap > self.hole[1]:
                self.hole = (self.last, gap)
        self.last = time
        self.frames += 1

    @property
    def gap_s(self) -> float:
        """The usual (median) time between two frames; 0 when there is but one."""
        half = (self.frames - 1) / 2
        for gap, count in sorted(self._gaps.items()):
            half -= count
            if half <= 0:
                return gap * _TICK
        return 0.0

    @property
    def variable(self) -> bool:
        usual = self.gap_s
        room = max(_JITTER_S, _JITTER * usual) + _TICK
        odd = sum(n for gap, n in self._gaps.items() if abs(gap * _TICK - usual) > room)
        return odd >= 2 and odd > _UNSTEADY * self.frames

    @property
    def has_hole(self) -> bool:
        return self.hole[1] >= max(1.0, _HOLE * self.gap_s)

    def rate(self, nominal: float) -> float:
        """Frames a second: what the file says when its frames agree, else what they do."""
        span = self.last - self.first
        measured = (self.frames - 1) / span if span > 0 else nominal
        if not self.variable and self.gap_s > 0 and not self.has_hole:
            agrees = abs(measured - nominal) <= max(0.01 * nominal, _JITTER_S / span * nominal)
            return nominal if agrees else measured
        return measured
