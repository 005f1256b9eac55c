"""Motion: what comes into the car's path against the motion of everything else. OpenCV only, no weights.

It proposes events and their times, and is no verdict: it knows neither what moves nor what hid it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from worker.engines.flows import Flows
from worker.engines.watching import Watched, Watching
from worker.ghosts.drift import CELL, COLUMNS, EXPLAINED, Cells, Drift, drift
from worker.ghosts.fixtures import Step, with_fixtures
from worker.ghosts.flow import Pace
from worker.ghosts.incident import Box, Incident
from worker.ghosts.intrusion import RULES, Rules, intrusions
from worker.ghosts.scene import Scene
from worker.ghosts.trails import Patch, Trail, Trails
from worker.media.rgb import Rgb

WIDTH = COLUMNS * CELL
"""pixels, of the picture in which motion is measured"""
_VISIBLE = 2.0
"""mean gradient of a cell whose motion can be measured, in levels a pixel"""
_CUT = 45.0
"""levels by which the cells of two frames differ where one scene ends and another begins"""
_TOP, _BOTTOM = 0.3, 0.92
"""the share of the height between which road users come into the way"""
_LEAST_CELLS = 3
_BESIDE = 8
"""cells beside a patch in which is looked for what hid it"""


class Motion(Watching[Trail, Rules]):
    about = "what moves against the car's own motion and into its path: proposes events and times, no verdict"
    version: ClassVar[str] = "2"
    width: ClassVar[int | None] = WIDTH
    rules: ClassVar = RULES

    @staticmethod
    def judge(seen: Watched[Trail], rules: Rules) -> Sequence[Incident]:
        return intrusions(seen.ways, seen.scene, rules)

    def _ways(self, frames: Iterable[tuple[float, Rgb]], scene: Scene) -> Iterator[Trail]:
        trails, pace, scale = Trails(), Pace(), scene.width / WIDTH
        seen: Drift | None = None
        for step, fixed in with_fixtures(steps(frames)):
            yield from trails.told(step.time)
            seen = (
                None if step.cut else drift(step.across, step.down, (step.texture > _VISIBLE) & ~fixed, seen)
            )
            speed = pace.after(step.time, seen.speed / WIDTH if seen else None)
            if step.cut:
                trails.cut()
            elif seen is None:
                trails.update(step.time, [])
            else:
                found = patches(seen.inward, scale) if seen.explained >= EXPLAINED else []
                for new in trails.update(step.time, found):
                    trails.begin(step.time, new, Trail(speed, hider(new.box, seen, scale)))
        yield from trails.told(math.inf)


def steps(frames: Iterable[tuple[float, Rgb]]) -> Iterator[Step]:
    """How the picture moves from one frame to the next."""
    flows = Flows(WIDTH, COLUMNS, fine=True)
    for time, frame in frames:
        last = flows.picture
        flow = flows.since_last(frame)
        if flow:
            pixels = np.asarray(flow.field, float) / (flow.width / WIDTH)
            shape = pixels.shape[:2]
            change = np.abs(_cells(last, shape) - _cells(flows.picture, shape)).mean()
            yield Step(time, pixels[..., 0], pixels[..., 1], _texture(last, shape), bool(change > _CUT))


def _texture(gray: Any, shape: tuple[int, ...]) -> Cells:
    import cv2

    across, down = (cv2.Sobel(gray, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1)))
    return _cells(cv2.magnitude(across, down), shape)


def _cells(pixels: Any, shape: tuple[int, ...]) -> Cells:
    import cv2

    mean = cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA)
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
