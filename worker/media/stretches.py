"""Stretches of time in which something holds, found frame by frame in bounded memory."""

from __future__ import annotations


class Stretches:
    """Collects the stretches that last at least so many seconds."""

    def __init__(self, min_s: float) -> None:
        self.found: list[tuple[float, float]] = []
        self._min_s = min_s
        self._since: float | None = None

    def see(self, time: float, holds: bool, since: float | None = None) -> None:
        """From `time` on it holds or not. `since`: when it began to, if that shows only now
        (a picture is known to be frozen when the next one is the same)."""
        if not holds:
            self.end(time)
        elif self._since is None:
            self._since = time if since is None else since

    def end(self, time: float) -> list[tuple[float, float]]:
        """Nothing holds from `time` on; all that was found."""
        # a frame lasts until the next one; a hair of room for times that are rounded in the file
        if self._since is not None and time - self._since >= self._min_s - 1e-3:
            self.found.append((round(self._since, 2), round(time, 2)))
        self._since = None
        return self.found
