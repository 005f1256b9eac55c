"""Motion: what comes into the car's path against the motion of everything else. OpenCV only, no weights.

It proposes events and their times, and is no verdict: it knows neither what moves nor what hid it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from worker.engines.engine import Finder, Frame
from worker.ghosts.drift import CELL, COLUMNS, EXPLAINED, Cells, Drift, drift
from worker.ghosts.fixtures import Step, with_fixtures
from worker.ghosts.incident import Box, Incident
from worker.ghosts.intrusion import RULES, Rules, intrusions
from worker.ghosts.scene import Scene
from worker.ghosts.trails import Patch, Trail, Trails

_VISIBLE = 2.0
"""mean gradient of a cell whose motion can be measured, in levels a pixel"""
_CUT = 45.0
"""levels by which the cells of two frames differ where one scene ends and another begins"""
_TOP, _BOTTOM = 0.3, 0.92
"""the share of the height between which road users come into the way"""
_LEAST_CELLS = 3
_PACE_STEPS = 10
"""so many are asked how fast the picture goes"""
_BESIDE = 8
"""cells beside a patch in which is looked for what hid it"""


@dataclass(frozen=True, slots=True)
class Watched:
    """What moved by itself in a clip: enough for any rules."""

    trails: Sequence[Trail]
    scene: Scene


class Motion(Finder):
    about = "what moves against the car's own motion and into its path: proposes events and times, no verdict"
    width: ClassVar[int | None] = COLUMNS * CELL
    rules: ClassVar = RULES

    def open(self, device: str) -> None:  # noqa: ARG002
        import cv2

        cv2.setNumThreads(1)  # one process a core, and the same answer on every machine

    def find(
        self, frames: Iterable[tuple[float, Frame]], recall: Literal["balanced", "high"]
    ) -> Sequence[Incident]:
        return self.judge(self.watch(frames), RULES[recall])

    @staticmethod
    def judge(seen: Watched, rules: Rules) -> Sequence[Incident]:
        return intrusions(seen.trails, seen.scene, rules)

    @staticmethod
    def watch(frames: Iterable[tuple[float, Frame]]) -> Watched:
        eye, trails = Eye(), Trails()
        speeds = deque[float](maxlen=_PACE_STEPS)
        seen: Drift | None = None
        for step, fixed in with_fixtures(eye.steps(frames)):
            if step.cut:
                trails.cut()
                seen = None
                continue
            seen = drift(step.across, step.down, (step.texture > _VISIBLE) & ~fixed, seen)
            if seen is None:
                trails.update(step.time, [])
                continue
            speeds.append(seen.speed / COLUMNS / CELL / step.lasted)
            found = patches(seen.inward, eye.scale) if seen.explained >= EXPLAINED else []
            for new in trails.update(step.time, found):
                trails.begin(step.time, new, Trail(median(speeds), hider(new.box, seen, eye.scale)))
        return Watched(trails.all, eye.scene)


class Eye:
    """Measures how the picture moves from one frame to the next."""

    def __init__(self) -> None:
        import cv2

        self._cv2 = cv2
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        # dark parts are told apart better; the flow sees contrast, not brightness
        self._brighter = (255 * (np.arange(256) / 255) ** 0.6 + 0.5).astype(np.uint8)
        self.scene = Scene(COLUMNS * CELL, CELL, 0.0)
        self.scale = 1.0
        """from pixels in which motion is measured to those of the frames"""

    def steps(self, frames: Iterable[tuple[float, Frame]]) -> Iterator[Step]:
        last: Any = None
        before = 0.0
        for time, frame in frames:
            if last is None:
                self.scene = Scene(frame.shape[1], frame.shape[0], time)
                self.scale = frame.shape[1] / (COLUMNS * CELL)
            gray = self._gray(frame)
            if last is not None and time > before:
                yield self._step(time, time - before, last, gray)
            last, before = gray, time

    def _gray(self, frame: Frame) -> Any:
        cv2 = self._cv2
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        rows = max(4, round(self.scene.height / self.scale / CELL))
        if gray.shape != (rows * CELL, COLUMNS * CELL):
            gray = cv2.resize(gray, (COLUMNS * CELL, rows * CELL), interpolation=cv2.INTER_AREA)
        return cv2.LUT(gray, self._brighter)

    def _step(self, time: float, lasted: float, last: Any, gray: Any) -> Step:
        flow = self._flow.calc(last, gray, None)  # type: ignore[call-overload]
        cut = bool(np.abs(self._cells(last) - self._cells(gray)).mean() > _CUT)
        moved = self._cells(flow)
        return Step(time, lasted, moved[..., 0], moved[..., 1], self._texture(last), cut)

    def _texture(self, gray: Any) -> Cells:
        cv2 = self._cv2
        across, down = (cv2.Sobel(gray, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1)))
        return self._cells(cv2.magnitude(across, down))

    def _cells(self, pixels: Any) -> Cells:
        rows, columns = pixels.shape[0] // CELL, pixels.shape[1] // CELL
        mean = self._cv2.resize(pixels, (columns, rows), interpolation=self._cv2.INTER_AREA)
        return np.asarray(mean, float)


def patches(inward: Cells, scale: float) -> list[Patch]:
    """Neighbouring cells that come inwards, in pixels of the frames."""
    import cv2

    rows = len(inward)
    zone = np.zeros_like(inward)
    zone[int(rows * _TOP) : int(rows * _BOTTOM), 1:-1] = inward[int(rows * _TOP) : int(rows * _BOTTOM), 1:-1]
    marked = cv2.morphologyEx((zone > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, names, boxes, _ = cv2.connectedComponentsWithStats(marked, connectivity=4)
    found = []
    for name in range(1, count):
        mine = zone[names == name]
        if np.count_nonzero(mine) >= _LEAST_CELLS:
            found.append(Patch(_box(boxes[name][:4], scale), round(float(mine.sum()), 3)))
    return found


def hider(first: Box, seen: Drift, scale: float) -> Box | None:
    """Something nearer than the background, on the side that the patch came from."""
    left, top, width, height = (
        round(n / scale / CELL) for n in (first.left, first.top, first.width, first.height)
    )
    from_left = 2 * left + width < COLUMNS
    start, stop = (
        (max(0, left - _BESIDE), left + 1) if from_left else (left + width - 1, left + width + _BESIDE)
    )
    nearer = np.argwhere(seen.outward[top : top + height, start:stop] > 0)
    if len(nearer) < _LEAST_CELLS:
        return None
    (first_row, first_column), (last_row, last_column) = nearer.min(axis=0), nearer.max(axis=0)
    cells = start + first_column, top + first_row, last_column - first_column + 1, last_row - first_row + 1
    return _box(np.array(cells), scale)


def _box(cells: npt.NDArray[Any], scale: float) -> Box:
    left, top, width, height = (float(n) * CELL * scale for n in cells)
    return Box(left, top, width, height)
