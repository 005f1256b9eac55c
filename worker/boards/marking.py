"""Defects drawn into the picture of their board."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.boards.copper import Mask
from worker.boards.defect import TYPES, Defect

_COPPER, _BARE = (70, 110, 180), (236, 242, 236)
_INK = ((0, 0, 230), (0, 140, 0), (220, 60, 0), (160, 0, 200), (200, 0, 120), (120, 90, 0))
"""of each type, as OpenCV orders colours"""
_QUALITY = 85
_CELL, _COLUMNS = 420, 4

Pixels = NDArray[np.uint8]


def marked(copper: Mask, defects: Sequence[Defect]) -> bytes:
    """As JPEG."""
    return marked_on(_coloured(copper), defects)


def marked_on(picture: Pixels, defects: Sequence[Defect]) -> bytes:
    """As it was taken, blue first."""
    return _jpeg(_drawn(picture.copy(), defects))


def beside(copper: Mask, labelled: Sequence[Defect], found: Sequence[Defect]) -> bytes:
    """The same board twice, as JPEG: on the left what is true."""
    return _jpeg(np.hstack([_drawn(_coloured(copper), defects) for defects in (labelled, found)]))


def sheet(boards: Sequence[tuple[Mask, Sequence[Defect]]]) -> bytes:
    """Several on one page, each as wide as the others, as JPEG."""
    drawn = [_drawn(_coloured(copper), defects) for copper, defects in boards]
    cells = [cv2.resize(one, (_CELL, _CELL), interpolation=cv2.INTER_AREA) for one in drawn]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[at : at + _COLUMNS]) for at in range(0, len(cells), _COLUMNS)]
    return _jpeg(np.vstack(rows))


def _coloured(copper: Mask) -> Pixels:
    return np.array([_BARE, _COPPER], np.uint8)[copper]


def _drawn(picture: Pixels, defects: Sequence[Defect]) -> Pixels:
    """Into the picture itself."""
    for one in defects:
        ink = _INK[TYPES.index(one.type)]
        left, top, right, bottom = (
            round(side) for side in (one.box.left, one.box.top, one.box.right, one.box.bottom)
        )
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), ink, 2)
        above = top - 4 if top > 14 else bottom + 12
        cv2.putText(picture, one.type, (left, above), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
    return picture


def _jpeg(picture: Pixels) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
