"""Boards are drawn in colours, and each with its own boxes."""

from __future__ import annotations

import cv2
import numpy as np

from worker.boards.defect import Box, Defect
from worker.boards.marking import beside, marked

_SIDE = 64
COPPER = np.zeros((_SIDE, _SIDE), np.uint8)
COPPER[:, :32] = 1
DEFECT = Defect("short", Box(36, 20, 60, 50))


def _seen(picture: bytes) -> np.ndarray:
    seen = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert seen is not None
    return seen.astype(int)


def test_what_is_labelled_stands_on_the_left_and_what_was_found_on_the_right() -> None:
    seen = _seen(beside(COPPER, [DEFECT], []))
    left, right = seen[:, :_SIDE], seen[:, _SIDE:]
    plain, boxed = _seen(marked(COPPER, [])), _seen(marked(COPPER, [DEFECT]))
    assert abs(left - boxed).mean() < 3
    assert abs(right - plain).mean() < 3
    assert abs(left - right).mean() > 10
    assert not COPPER[:, 32:].any()
