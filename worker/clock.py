"""Time, in one place. Decisions rest on a clock that nobody can set; the wall clock is for people."""

from __future__ import annotations

import time

LOOK_EVERY_S = 2.0
"""between two looks at a queue that a person watches"""


class Clock:
    """Seconds that only go forward, through suspends too, alike for all processes of this machine."""

    def now(self) -> float:
        return (
            time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
        )

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wall(self) -> float:
        """For display alone: it may jump."""
        return time.time()
