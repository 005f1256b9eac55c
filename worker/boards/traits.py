"""A difference in numbers: its size, what it touches, and what it does to the copper around it."""

from __future__ import annotations

import cv2
import numpy as np

from worker.boards.copper import Floats, Mask, core, depth, grown, pieces, rounded, shrunk
from worker.boards.differences import Difference

_MARGIN = 14
_FAR = 40.0
"""no trait is larger: a distance to nothing would be endless"""
COUNT = 38


def traits(template: Mask, tested: Mask, one: Difference) -> Floats:
    """What is missing is looked at in the negative: there, something was added to what is no copper."""
    height, width = template.shape
    left, top = max(0, one.left - _MARGIN), max(0, one.top - _MARGIN)
    around = (
        slice(top, min(height, one.bottom + _MARGIN)),
        slice(left, min(width, one.right + _MARGIN)),
    )
    before, after = template[around], tested[around]
    if not one.added:
        before, after = 1 - before, 1 - after
    differs = after & (1 - before)
    own = np.zeros_like(differs)
    inside = (slice(one.top - top, one.bottom - top), slice(one.left - left, one.right - left))
    own[inside] = core(differs)[inside]
    blob = grown(own, 3) & differs
    wide, high = one.right - one.left, one.bottom - one.top
    at_edge = one.left <= 1 or one.top <= 1 or one.right >= width - 1 or one.bottom >= height - 1
    found = [
        float(one.added),
        *_size(blob, own, wide, high),
        *_touched(before, after, blob),
        *_nets(before, after, blob),
        *_room(before, after, blob, differs),
        float(at_edge),
    ]
    return np.clip(np.asarray(found, np.float32), -_FAR, _FAR)


def _size(blob: Mask, own: Mask, wide: int, high: int) -> list[float]:
    area = float(cv2.countNonZero(blob))
    return [
        np.log(area),
        np.log(max(wide, high)),
        np.log(min(wide, high)),
        area / (wide * high),
        float(depth(np.pad(blob, 1)).max()),
        float(pieces(own, 1, 8)),
    ]


def _touched(before: Mask, after: Mask, blob: Mask) -> list[float]:
    """Of rings around it: how many pieces of copper they cross, and how much of it."""
    found: list[float] = []
    for reach in (1, 3, 5):
        inner, outer = (rounded(blob, r) for r in (reach, reach + 1))
        ring = outer & (1 - inner)
        copper = ring & before
        length = max(1, cv2.countNonZero(ring))
        found += [
            pieces(copper, 3, 8),
            pieces(ring & (1 - before), 3, 8),
            cv2.countNonZero(copper) / length,
            cv2.countNonZero(ring & after) / length,
        ]
    return found


def _nets(before: Mask, after: Mask, blob: Mask) -> list[float]:
    """Near it, how many pieces of copper, and of what is none, there are less: by it alone, and in all.
    The same with thinner copper, for what only just touches."""
    joined = before | blob
    thick = before, joined, after
    thin = shrunk(before), shrunk(joined), shrunk(after)
    found: list[float] = []
    for reach, (was, with_it, now) in ((3, thick), (3, thin), (14, thick)):
        near = grown(blob, 2 * reach + 1)
        count = pieces(was & near)
        found += [
            count - pieces(with_it & near),
            pieces((1 - was) & near) - pieces((1 - with_it) & near),
            count - pieces(now & near),
        ]
    return found


def _room(before: Mask, after: Mask, blob: Mask, differs: Mask) -> list[float]:
    """How wide the gap was where it lies, and how wide it is now."""
    gap = np.minimum(depth(1 - before), _FAR)
    left = np.minimum(depth(1 - after), _FAR)
    near = grown(blob, 9)
    area = max(1, cv2.countNonZero(blob))
    deepest = float((gap * blob).max())
    return [
        deepest,
        float(gap.max()),
        deepest / max(1.0, float(gap.max())),
        float((left * near).max()),
        float((gap * near).max()),
        float(before.mean()),
        float(after.mean()),
        cv2.countNonZero(differs) / area,
        cv2.countNonZero((1 - after) & before) / area,
    ]
