"""The brightness of a frame, sampled on a small grid: enough to tell black and frozen from alive."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

Luma: TypeAlias = NDArray[np.uint8]

_GRID = 160
"""samples across a frame"""
_STIR = 6
"""levels by which a sample may differ and still be coding noise"""
_STIRRED = 0.0005
"""share of samples that may differ by more: what noise does, a passing bird does not"""
_DARK = 0.98
"""share of samples that are dark in a black frame; the rest may be a clock or a logo"""


def luma(frame: VideoFrame) -> Luma:
    """Every n-th pixel of the luma plane, in place: scaling each frame would cost twice its decoding."""
    plane, kind = frame.planes[0], frame.format
    bits = kind.components[0].bits
    step = max(1, frame.width // _GRID)
    in_place = kind.name.startswith(("yuv4", "yuvj4", "yuva4", "nv12", "gray")) and plane.line_size > 0
    if in_place and bits == 8:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[: frame.height : step, : frame.width : step].copy()
    if in_place and 8 < bits <= 16 and not kind.is_big_endian:
        wide = np.frombuffer(memoryview(plane), np.uint16).reshape(-1, plane.line_size // 2)
        return (wide[: frame.height : step, : frame.width : step] >> (bits - 8)).astype(np.uint8)
    size = max(1, frame.width // step), max(1, frame.height // step)
    return frame.reformat(*size, format="gray").to_ndarray().astype(np.uint8)


def is_dark(picture: Luma, level: float) -> bool:
    """Is nearly all of it at or below this level?"""
    return bool(np.count_nonzero(picture <= level) >= _DARK * picture.size)


def is_same(one: Luma, other: Luma) -> bool:
    """Does nothing move between the two but coding noise?"""
    if one.shape != other.shape:
        return False
    change = np.maximum(one, other) - np.minimum(one, other)
    return bool(np.count_nonzero(change > _STIR) <= _STIRRED * one.size)
