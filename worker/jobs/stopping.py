"""How a job learns that it shall stop."""

from __future__ import annotations

import threading
import time


class StopFlag:
    """Set once, by another thread; a job looks at it between two steps, or waits on it."""

    def __init__(self) -> None:
        self.reason = ""
        self._ends = 0.0
        self._set = threading.Event()

    def __bool__(self) -> bool:
        return self._set.is_set()

    @property
    def time_left(self) -> float:
        """Seconds for a last checkpoint; not limited before anybody wants us to stop."""
        return max(0.0, self._ends - time.monotonic()) if self else float("inf")

    def wait(self, seconds: float) -> bool:
        return self._set.wait(seconds)

    def set(self, reason: str, time_left: float) -> None:
        self.reason, self._ends = reason, time.monotonic() + time_left
        self._set.set()
