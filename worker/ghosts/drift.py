"""What moves by itself, told apart from a still world that the car drives past. Numbers only, no pictures.

A still thing between the road and the camera leaves the picture at least as fast as the road behind it
does. So the slowest outward motion that fits the whole picture is taken for the background's; what leaves
more slowly, or comes inwards, moves by itself: it keeps pace with the car, or is on its way into its path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.float64]
"""rows x columns of a picture cut into square cells"""

COLUMNS = 60
"""cells across the picture"""
CELL = 8
"""pixels a side, where the motion of pictures is measured"""

_FINEST = 0.6
"""pixels by which motion is measured wrongly, at least"""
_SHARE = 0.35
"""or this share of the motion"""
_OUTWARD = 0.05
"""how much less something counts for the background when it leaves faster: it is nearer, not moving"""
_ROUNDS = 8
_MOST = 3.0
"""tolerances beyond the first: more says no more"""
_WILDEST = 14.0
"""pixels: faster motion is measured badly"""
_LEAST_CELLS = 30
"""fewer cells with something to see in them tell nothing"""


@dataclass(frozen=True, slots=True)
class Drift:
    inward: Cells
    """how far each cell comes inwards beyond what is tolerated, 0 to 3 tolerances"""
    outward: Cells
    """how far it leaves faster than the background, likewise: it is nearer"""
    explained: float
    """share of the picture that moves as the background should"""
    speed: float
    """pixels by which the middle one of the background's cells moved"""


def drift(across: Cells, down: Cells, visible: npt.NDArray[np.bool_]) -> Drift | None:
    """From where the content of each cell went, in pixels; None: there is too little to see.

    `visible`: cells with something in them whose motion can be measured."""
    grid = _grid(*across.shape)
    u, v, seen = across.ravel(), down.ravel(), visible.ravel().astype(float)
    if seen.sum() < _LEAST_CELLS:
        return None
    weight = seen
    for _ in range(_ROUNDS):
        model = _solved(grid, weight, u, v)
        du, dv = u - grid.across @ model, v - grid.down @ model
        tolerance = _FINEST + _SHARE * np.hypot(u - du, v - dv)
        off = np.hypot(du, dv) / tolerance
        weight = seen / (1 + off**2) ** 2 * np.where(du * grid.inwards < 0, _OUTWARD, 1)
    pace = np.hypot(u - du, v - dv)
    towards, sure = du * grid.inwards / tolerance, seen * (pace < _WILDEST)
    inward, outward = (sure * np.clip(one - 1, 0, _MOST) for one in (towards, -towards))
    there, shape = seen > 0, across.shape
    explained, speed = float((off[there] < 1).mean()), float(np.median(pace[there]))
    return Drift(inward.reshape(shape), outward.reshape(shape), explained, speed)


@dataclass(frozen=True, slots=True)
class _Grid:
    across: Cells
    down: Cells
    """cells x the eight numbers that say how a plane moves across the picture of a moving camera"""
    inwards: npt.NDArray[np.float64]
    """towards the middle: 1 in the left half, -1 in the right"""


@lru_cache(maxsize=8)
def _grid(rows: int, columns: int) -> _Grid:
    x = np.tile((np.arange(columns) + 0.5 - columns / 2) / 12.5, rows)
    y = np.repeat((np.arange(rows) + 0.5 - rows / 2) / 12.5, columns)
    none, one = np.zeros_like(x), np.ones_like(x)
    return _Grid(
        np.stack([one, x, y, none, none, none, x * x, x * y], axis=1),
        np.stack([none, none, none, one, x, y, x * y, y * y], axis=1),
        -np.sign(x),
    )


def _solved(grid: _Grid, weight: Cells, u: Cells, v: Cells) -> Cells:
    """Weighted least squares; the small number keeps it solvable."""
    a, b = grid.across * weight[:, None], grid.down * weight[:, None]
    both = a.T @ grid.across + b.T @ grid.down + 1e-2 * np.eye(8)
    return np.asarray(np.linalg.solve(both, a.T @ u + b.T @ v))
