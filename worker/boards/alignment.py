"""A template laid over the board that is tested: shifted, turned, sheared and scaled as that one is."""

from __future__ import annotations

import cv2
import numpy as np

from worker.boards.copper import Floats, Mask, shrunk

_REACH = np.uint8(12)
"""pixels: an edge is drawn to one that is at most so far away"""
_FINE = 10
"""parts of a pixel"""
_POINTS = 2500
"""of the template's edges that are looked at"""
_FEWEST = 60
"""with fewer there is nothing to align by"""
_EDGE = float(_REACH) + 0.5
_SHIFTS, _STEPS = 3, 9
"""the first steps only shift; then all of the affine map moves"""


def align(template: Mask, tested: Mask) -> Mask:
    """The template as it lies on the tested board."""
    xs, ys = _edge_points(template)
    if len(xs) < _FEWEST or not tested.any() or tested.all():
        return template
    height, width = tested.shape
    affine = _fit(_signed_distance(tested), xs, ys)
    warped = cv2.warpAffine(
        template * np.uint8(255), affine, (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    return (warped > 127).astype(np.uint8)


def _edge_points(copper: Mask) -> tuple[Floats, Floats]:
    found = cv2.findNonZero(copper - shrunk(copper))
    if found is None:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    xs, ys = found.reshape(-1, 2).T  # its shape is another in each version of OpenCV
    if len(xs) > _POINTS:
        chosen = np.linspace(0, len(xs) - 1, _POINTS).astype(int)
        xs, ys = xs[chosen], ys[chosen]
    return xs.astype(np.float32), ys.astype(np.float32)


def _signed_distance(copper: Mask) -> Floats:
    """To the nearest edge, in bytes, which is fast: more inside of copper than outside, and smooth enough to
    have a slope."""
    inside, outside = (
        cv2.distanceTransform(one, cv2.DIST_L1, 3, dstType=cv2.CV_8U) for one in (copper, 1 - copper)
    )
    signed = np.minimum(inside, _REACH) + (_REACH - np.minimum(outside, _REACH))
    return np.asarray(cv2.GaussianBlur(signed * np.uint8(_FINE), (5, 5), 1.0))


def _fit(distance: Floats, xs: Floats, ys: Floats) -> Floats:
    """Gauss and Newton draw the template's edges to where the tested board's distance to its edges is that
    of an edge; a defect's are too far off to count."""
    height, width = distance.shape
    by_width, by_height = 2 * xs / width - 1, 2 * ys / height - 1
    basis = np.stack([np.ones_like(xs), by_width, by_height], axis=1)
    moves = np.zeros((3, 2))
    for step in range(_STEPS):
        x, y = xs + basis @ moves[:, 0], ys + basis @ moves[:, 1]
        column = np.clip(np.rint(x), 1, width - 2).astype(int)
        row = np.clip(np.rint(y), 1, height - 2).astype(int)
        here, right, left, below, above = (
            distance[row + down, column + across].astype(np.float32) / _FINE
            for down, across in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
        )
        slope_x, slope_y = (right - left) / 2, (below - above) / 2
        off = here - _EDGE + slope_x * (x - column) + slope_y * (y - row)
        scale = max(1.0, 8 * 0.65**step)
        inside = (np.abs(x - column) <= 1) & (np.abs(y - row) <= 1)
        weight = inside / (1 + (off / scale) ** 2) ** 2
        pull = np.concatenate([basis * slope_x[:, None], basis * slope_y[:, None]], axis=1)
        free = [0, 3] if step < _SHIFTS else [0, 1, 2, 3, 4, 5]
        pull = pull[:, free]
        normal = pull.T @ (pull * weight[:, None]) + 1e-5 * len(xs) * np.eye(len(free))
        change = np.zeros(6)
        change[free] = np.linalg.solve(normal, -pull.T @ (weight * off))
        moves += change.reshape(2, 3).T
    constant, by_x, by_y = moves
    affine = np.stack([by_x * 2 / width, by_y * 2 / height, constant - by_x - by_y], axis=1)
    affine[[0, 1], [0, 1]] += 1
    return affine.astype(np.float32)
