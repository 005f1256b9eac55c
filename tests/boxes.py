"""Road users drawn as boxes, for tests that need no picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from worker.ghosts.detection import Detection
from worker.ghosts.emergence import Path
from worker.ghosts.incident import Box
from worker.ghosts.scene import Scene
from worker.ghosts.tracking import Track, Tracker

SCENE = Scene(width=1600, height=660, start_s=0.0)
FPS = 10


def around(x: float, y: float, width: float, height: float) -> Box:
    return Box(x - width / 2, y - height / 2, width, height)


def seen(box: Box, label: str = "person", score: float = 0.7) -> Detection:
    return Detection(box, score, label)


def times(start: float, end: float) -> list[float]:
    return [round(n / FPS, 2) for n in range(round(start * FPS), round(end * FPS) + 1)]


def tracks(frames: Iterable[tuple[float, Sequence[Detection]]]) -> list[Track]:
    """All that a tracker makes of it."""
    tracker = Tracker()
    return [one for time, found in frames for one in tracker.update(time, found)]


def path(
    start: float, end: float, where: Callable[[float], Box], *, speed: float = 0.05, score: float = 0.7
) -> Path:
    """One road user, seen in every frame."""
    (track,) = tracks((time, [seen(where(time), "rider", score)]) for time in times(start, end))
    return Path(track, None, speed)


def dashing(
    start: float, *, grows: float = 1.25, left: float = 500, size: float = 90
) -> Callable[[float], Box]:
    """Comes in from `left` towards the middle, each second so many times larger as the exponent says."""

    def where(time: float) -> Box:
        passed = time - start
        now = size * 2.718 ** (grows * passed)
        return around(left + 150 * passed, 380, now * 0.8, now * 1.25)

    return where
