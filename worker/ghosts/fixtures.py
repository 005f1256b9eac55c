"""What is fixed to the camera: the bonnet, a dashboard, a date written into the picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.ghosts.drift import Cells

_MOVING = 0.6
"""pixels by which half of the picture moves, so that standing still says something"""
_STILL = 0.5
_OFTEN = 0.7
_LEAST = 5
"""steps in motion before anything is believed to be fixed"""
_AHEAD = 30
"""steps that are looked at before the first one is judged"""


@dataclass(frozen=True, slots=True)
class Step:
    """From one frame to the next."""

    time: float
    """of the second one"""
    across: Cells
    down: Cells
    """pixels by which the content of each cell went"""
    texture: Cells
    """how much there is to see in each cell"""
    cut: bool = False
    """the second frame shows another scene"""


def with_fixtures(steps: Iterable[Step]) -> Iterator[tuple[Step, npt.NDArray[np.bool_]]]:
    """Each step, and the cells that are fixed as far as is known some steps later."""
    ahead: deque[Step] = deque()
    moving, still = 0, np.zeros(())
    for step in steps:
        ahead.append(step)
        pace = np.hypot(step.across, step.down)
        if not step.cut and np.median(pace) > _MOVING:
            moving, still = moving + 1, still + (pace < _STILL)
        if len(ahead) > _AHEAD:
            yield ahead.popleft(), _fixed(moving, still, pace.shape)
    while ahead:
        step = ahead.popleft()
        yield step, _fixed(moving, still, step.across.shape)


def _fixed(moving: int, still: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """With the cells around: the edge of the bonnet is measured half with the road."""
    if moving < _LEAST:
        return np.zeros(shape, bool)
    fixed = np.pad(still > _OFTEN * moving, 1)
    rows, columns = shape
    shifts = [fixed[r : r + rows, c : c + columns] for r in range(3) for c in range(3)]
    return np.asarray(np.logical_or.reduce(shifts))
