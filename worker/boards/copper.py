"""Copper as a mask of ones, and how it grows, shrinks and falls into pieces."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import ItemError

Mask = NDArray[np.uint8]
"""1 is copper"""
Floats = NDArray[Any]


def read(file: Path) -> Mask:
    """Dark is copper, as DeepPCB has it. In the pixels of the file, whichever way it was held."""
    found = np.frombuffer(file.read_bytes(), np.uint8)
    try:
        grey = cv2.imdecode(found, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # it is empty, or says that it is larger than any picture
        grey = None
    if grey is None:
        raise ItemError("damaged", f"{file.name} is no picture that can be read")
    return np.asarray(grey < 128, np.uint8)


def grown(mask: Mask, side: int) -> Mask:
    """By a square of so many pixels."""
    return np.asarray(cv2.dilate(mask, _square(side)), np.uint8)


def rounded(mask: Mask, reach: int) -> Mask:
    """Grown by a disk."""
    return np.asarray(cv2.dilate(mask, _disk(reach)), np.uint8)


def shrunk(mask: Mask) -> Mask:
    """By one pixel on every side; what reaches the picture's edge goes on beyond it."""
    return np.asarray(cv2.erode(mask, _square(3), borderValue=1), np.uint8)


def core(mask: Mask) -> Mask:
    """What is nowhere thinner than three pixels."""
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _square(3)), np.uint8)


def smoothed(mask: Mask, reach: int) -> Mask:
    """Without what a disk closes, and then without what it does not fit into: holes, gaps and notches of
    copper, spurs, bridges and islands."""
    far = 4 * reach
    wide = np.pad(mask, far, mode="edge")
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, _disk(reach))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disk(reach))
    return np.ascontiguousarray(opened[far:-far, far:-far], np.uint8)


def depth(mask: Mask) -> Floats:
    """Of each pixel in it, how far it is to what is outside."""
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 3))


def pieces(mask: Mask, least: int = 4, connectivity: int = 4) -> int:
    """How many there are of at least so many pixels."""
    count, _, numbers, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
    return int((numbers[1:count, cv2.CC_STAT_AREA] >= least).sum())


@cache
def _square(side: int) -> Mask:
    return np.ones((side, side), np.uint8)


@cache
def _disk(reach: int) -> Mask:
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(shape, np.uint8)
